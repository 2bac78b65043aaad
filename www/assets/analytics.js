/*
 * analytics -- the page at /ui/analytics: what users did in the newest hour.
 */
import { createBars } from "./bars.js";
import { byId, el, setText, showEmpty } from "./dom.js";
import { showFeed, worstState } from "./feedline.js";
import { formatClockShort, formatPrice, formatWhole } from "./format.js";
import { showPages } from "./nav.js";
import { createFeed } from "./poll.js";

const MINUTE_MS = 60000;
const HOUR_MINUTES = 60;
const START_HINT = "Start users with `make start SERVICE=event-producer`; the page fills by itself.";

const share = new Intl.NumberFormat("en-US", { style: "percent", maximumFractionDigits: 1 });
const phi = new Intl.NumberFormat("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });

const KINDS = ["click", "purchase", "signup"];
const isWindow = (w) => [...KINDS, "start_ms", "late", "users"].every((key) => Number.isFinite(w?.[key]));
const isCounted = (t) => typeof t?.name === "string" && Number.isFinite(t?.events);
const isStep = (s) => typeof s?.step === "string" && Number.isFinite(s?.sessions);
const isPair = (p) => typeof p?.a === "string" && typeof p?.b === "string" && Number.isFinite(p?.phi) && Number.isFinite(p?.sessions);
const listOf = (value, isOne) => (Array.isArray(value) ? value : []).filter(isOne);
const eventsOf = (w) => w.click + w.purchase + w.signup;

/* Every minute from the first to the last, also those without an event. */
function fillMinutes(list) {
	const byStart = new Map(list.map((w) => [w.start_ms, w]));
	const last = Math.max(...byStart.keys());
	const first = Math.max(Math.min(...byStart.keys()), last - (HOUR_MINUTES - 1) * MINUTE_MS);
	const filled = [];

	for (let t = first; t <= last; t += MINUTE_MS)
		filled.push(byStart.get(t) ?? { start_ms: t, click: 0, purchase: 0, signup: 0, late: 0, users: 0, closed: true });
	return filled;
}

let minutes = [];
const chart = globalThis.uPlot === undefined ? null : createBars(byId("minutes"), { time: true, onCursor: showMinute });

function showMinute(index) {
	const minute = index === null ? undefined : minutes[index];

	setText(byId("minutes-readout"), minute === undefined ? "" :
	    `${formatClockShort(minute.start_ms)}: ${formatWhole(eventsOf(minute))} events of ${formatWhole(minute.users)} users, ${formatWhole(minute.purchase)} purchases`);
}

function takeSummary(body) {
	const any = body.ever?.events > 0;

	byId("analytics-body").hidden = !any;
	byId("analytics-details").hidden = !any;
	if (!any) {
		showEmpty(byId("analytics-empty"), "No events yet", START_HINT);
		return;
	}
	byId("analytics-empty").hidden = true;
	setText(byId("sum-events"), formatWhole(eventsOf(body.events)));
	setText(byId("sum-users"), formatWhole(body.users));
	setText(byId("sum-signups"), formatWhole(body.events.signup));
	setText(byId("sum-sessions"), formatWhole(body.sessions.count));
	setText(byId("sum-buying"), body.sessions.count === 0 ? "–" : share.format(body.sessions.with_purchase / body.sessions.count));
	setText(byId("sum-late"), formatWhole(body.late));
	byId("revenue").replaceChildren(...listOf(body.revenue, (r) => typeof r?.currency === "string" && Number.isFinite(r?.amount_minor)).map((r) =>
		el("div", {}, el("dt", {}, `${r.currency}, ${formatWhole(r.purchases)} purchases`), el("dd", {}, formatPrice(r.amount_minor / 100)))));
}

function takeWindows(body) {
	const list = listOf(body.windows, isWindow);

	minutes = list.length === 0 ? [] : fillMinutes(list);
	if (minutes.length === 0)
		return;
	byId("minutes").setAttribute("aria-label", `Events by minute, ${minutes.length} minutes up to ${formatClockShort(minutes.at(-1).start_ms)}`);
	byId("minutes-table").replaceChildren(...minutes.toReversed().map((w) => el("tr", {},
	    el("th", { scope: "row" }, formatClockShort(w.start_ms)),
	    ...[w.click, w.purchase, w.signup, w.late, w.users].map((n) => el("td", {}, formatWhole(n))), el("td", {}, w.closed ? "yes" : "not yet"))));
	chart?.show(minutes.map((w) => (w.start_ms + MINUTE_MS / 2) / 1000), minutes.map(eventsOf), minutes.map((w) => w.users), 60);
}

function takeFunnel(body) {
	const steps = listOf(body.funnel, isStep);
	const all = steps[0]?.sessions ?? 0;
	const pairs = listOf(body.correlations, isPair).toSorted((a, b) => b.phi - a.phi);

	byId("funnel").replaceChildren(...steps.map(({ step, sessions }) => {
		const part = all === 0 ? 0 : sessions / all;

		return el("li", {}, el("span", {}, step), el("meter", { value: part.toFixed(4), "aria-label": `${step}: ${share.format(part)}` }),
		    el("span", { class: "funnel-count" }, `${formatWhole(sessions)} (${share.format(part)})`));
	}));
	byId("together-table").replaceChildren(...pairs.map((p) => el("tr", {},
	    el("th", { scope: "row" }, `${p.a} and ${p.b}`), el("td", {}, formatWhole(p.sessions)), el("td", {}, phi.format(p.phi).replace("-", "\u2212")))));
}

function takeTop(id) {
	return (body) => byId(id).replaceChildren(...listOf(body.top, isCounted).map((t) => el("tr", {},
	    el("th", { scope: "row", class: "name" }, t.name), el("td", { class: "count" }, formatWhole(t.events)))));
}

showPages(byId("pages"), location.pathname);

const onState = () => showFeed(byId("analytics-feed"), worstState(feeds.map((feed) => feed.state())));
const feeds = [
	createFeed({
		url: () => "/analytics/summary",
		onAnswer: takeSummary,
		onRefused: () => showEmpty(byId("analytics-empty"), "The analytics service is not there", "Start it with `make start SERVICE=analytics`."),
		onState,
	}),
	createFeed({ url: () => `/analytics/windows?limit=${HOUR_MINUTES}`, onAnswer: takeWindows, onState }),
	createFeed({ url: () => "/analytics/funnel", onAnswer: takeFunnel, onState }),
	createFeed({ url: () => "/analytics/top?what=pages&limit=10", onAnswer: takeTop("pages-table"), onState }),
	createFeed({ url: () => "/analytics/top?what=users&limit=10", onAnswer: takeTop("users-table"), onState }),
];

byId("analytics-feed").querySelector("button").addEventListener("click", () => {
	for (const feed of feeds)
		feed.now();
});
for (const feed of feeds)
	feed.start();
