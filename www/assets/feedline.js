/*
 * feedline -- says beside a card whether its feeds live.
 */
import { say, setText } from "./dom.js";
import { formatSpan } from "./format.js";

/*
 * Show a state of a feed (see poll.js) in ${node}, a .feed with a .feed-text
 * and a button to retry.  The seconds are for the eye; a screen reader hears
 * only the changes.
 */
export function showFeed(node, { kind, silentMs, reason }) {
	const before = node.dataset.state;

	node.dataset.state = kind;
	setText(node.querySelector(".feed-text"), kind === "stale" ? `No answer for ${formatSpan(silentMs)}${reason ? ` (${reason})` : ""}, retrying` :
	    kind === "live" ? "Live" : "Connecting");
	node.querySelector("button").hidden = kind !== "stale";
	if (before !== kind && kind === "stale")
		say("The server does not answer, retrying");
	else if (before === "stale" && kind !== "stale")
		say("The server answers again");
}

/*
 * Of the states of feeds that are one card the one that speaks for it: of the
 * stale ones that which is silent for longest, else the first.
 */
export function worstState(states) {
	const stale = states.filter((state) => state.kind === "stale");

	return stale.length === 0 ? states[0] : stale.reduce((a, b) => (b.silentMs > a.silentMs ? b : a));
}
