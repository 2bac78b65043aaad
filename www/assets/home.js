/*
 * home -- the page at /: a table of contents.
 */
import { byId, say, setText } from "./dom.js";
import { formatSpan } from "./format.js";
import { showPages } from "./nav.js";
import { startOrders } from "./orders.js";
import { startPrices } from "./prices.js";

/* The feeds by their element; whose silence is shown only when it matters. */
const FEEDS = {
	prices: { label: "Prices", onlyStale: false },
	orders: { label: "Orders", onlyStale: false },
	notes: { label: "Notifications", onlyStale: true },
};

function feedText({ kind, silentMs, reason }, label) {
	switch (kind) {
	case "stale":
		return `${label}: no answer for ${formatSpan(silentMs)}${reason ? ` (${reason})` : ""}, retrying`;
	case "quiet":
		return `No new price for ${formatSpan(silentMs)}`;
	case "live":
		return "Live";
	default:
		return "Connecting";
	}
}

/* The seconds are for the eye; a screen reader hears only the changes. */
function showFeed(name, state) {
	const node = byId(`${name}-feed`);
	const { label, onlyStale } = FEEDS[name];
	const before = node.dataset.state;

	node.dataset.state = state.kind;
	node.hidden = onlyStale && state.kind !== "stale";
	setText(node.querySelector(".feed-text"), feedText(state, label));
	node.querySelector("button").hidden = state.kind !== "stale";
	if (before === state.kind)
		return;
	if (state.kind === "stale")
		say(`${label}: the server does not answer, retrying`);
	else if (before === "stale")
		say(`${label}: the server answers again`);
}

showPages(byId("pages"), location.pathname);
const prices = startPrices(showFeed);
const orders = startOrders(showFeed);

for (const name of Object.keys(FEEDS)) {
	byId(`${name}-feed`).querySelector("button").addEventListener("click", () => {
		if (name === "prices")
			prices.retry();
		else
			orders.retry(name);
	});
}
