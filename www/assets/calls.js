/*
 * calls -- the page at /ui/calls: sums, minutes, durations, long calls.
 */
import { createBars } from "./bars.js";
import { byId, el, setText, showEmpty } from "./dom.js";
import { showFeed } from "./feedline.js";
import { formatClockShort, formatTime, formatWhole } from "./format.js";
import { showPages } from "./nav.js";
import { createFeed } from "./poll.js";

const MINUTE_MS = 60000;
const START_HINT = "Start the call producer with `make start SERVICE=call-producer`; the page fills by itself.";
/* The histogram ends where all but so many of a thousand calls are shown. */
const TAIL_PERMILLE = 2;

const decimal = new Intl.NumberFormat("en-US", { minimumFractionDigits: 1, maximumFractionDigits: 1 });

const isMinute = (m) => ["start_ms", "calls", "duration_s"].every((key) => Number.isFinite(m?.[key]));
const isLongCall = (c) => Number.isFinite(c?.seq) && Number.isFinite(c?.started_ms) && Number.isFinite(c?.duration_s);

/* "75 s" or "12 min 3 s" or "3 h 20 min" */
function formatDuration(s) {
	if (s < 120)
		return `${decimal.format(s)} s`;
	if (s < 7199.5) {
		const whole = Math.round(s);

		return `${Math.floor(whole / 60)} min ${whole % 60} s`;
	}
	const wholeMinutes = Math.round(s / 60);

	return `${formatWhole(Math.floor(wholeMinutes / 60))} h ${wholeMinutes % 60} min`;
}

/* Every minute from the first to the last, also those without a call. */
function fillMinutes(list) {
	const byStart = new Map(list.map((m) => [m.start_ms, m.calls]));
	const last = Math.max(...byStart.keys());
	const first = Math.max(Math.min(...byStart.keys()), last - 59 * MINUTE_MS);
	const filled = [];

	for (let t = first; t <= last; t += MINUTE_MS)
		filled.push({ start_ms: t, calls: byStart.get(t) ?? 0 });
	return filled;
}

/* Bars up to where little is left, and what an exponential has in each. */
function makeHistogram({ calls, duration_s: total, bucket_s: width, durations }) {
	const mean = total / calls;
	const bins = [];
	let left = calls;

	for (const [i, count] of durations.slice(0, -1).entries()) {
		if (i >= 8 && left * 1000 <= calls * TAIL_PERMILLE)
			break;
		const from = i * width;

		bins.push({ from, to: from + width, calls: count, expected: calls * (Math.exp(-from / mean) - Math.exp(-(from + width) / mean)) });
		left -= count;
	}
	return { mean, width, bins, left };
}

let minutes = [];
let histogram = null;

const charts = globalThis.uPlot === undefined ? null : {
	minutes: createBars(byId("minutes"), { time: true, onCursor: showMinute }),
	durations: createBars(byId("durations"), { time: false, onCursor: showBin }),
};

function showMinute(index) {
	const minute = index === null ? undefined : minutes[index];

	setText(byId("minutes-readout"), minute === undefined ? "" : `${formatClockShort(minute.start_ms)}: ${formatWhole(minute.calls)} calls`);
}

function showBin(index) {
	const bin = index === null ? undefined : histogram?.bins[index];

	setText(byId("durations-readout"), bin === undefined ? summary() :
	    `${bin.from} to ${bin.to} s: ${formatWhole(bin.calls)} calls, ${decimal.format(bin.expected)} expected`);
}

function summary() {
	if (histogram === null)
		return "";
	return `Mean ${decimal.format(histogram.mean)} s; ${formatWhole(histogram.left)} calls are longer than what is shown.`;
}

function showSums(body) {
	const full = minutes.length > 1 ? minutes.at(-2) : null;
	const whole = minutes.slice(0, -1);
	const mean = whole.reduce((sum, m) => sum + m.calls, 0) / whole.length;

	setText(byId("sum-calls"), formatWhole(body.calls));
	setText(byId("sum-duration"), formatDuration(body.duration_s));
	setText(byId("sum-mean"), formatDuration(body.duration_s / body.calls));
	setText(byId("sum-minute"), full === null ? "–" : formatWhole(full.calls));
	setText(byId("sum-rate"), whole.length === 0 ? "–" : decimal.format(mean));
}

function showDurations() {
	byId("durations").setAttribute("aria-label", `Histogram of durations, falling as an exponential does. ${summary()}`);
	byId("durations-table").replaceChildren(...histogram.bins.map((bin) => el("tr", {},
	    el("th", { scope: "row" }, `${bin.from} to ${bin.to}`), el("td", {}, formatWhole(bin.calls)), el("td", {}, decimal.format(bin.expected)))));
	setText(byId("durations-readout"), summary());
	charts?.durations.show(histogram.bins.map((b) => (b.from + b.to) / 2), histogram.bins.map((b) => b.calls),
	    histogram.bins.map((b) => b.expected), histogram.width);
}

function showLongCalls({ long_call_s: limit, long_calls: list }) {
	const shown = (Array.isArray(list) ? list : []).filter(isLongCall);

	setText(byId("long-hint"), shown.length === 0 ? `No call was longer than ${limit} s yet.` :
	    `Longer than ${limit} s; each is a line in the log of long calls (--long-calls-log), once.`);
	byId("long-table").replaceChildren(...shown.map((call) => el("tr", {},
	    el("th", { scope: "row" }, formatTime(call.started_ms)), el("td", {}, formatDuration(call.duration_s)),
	    el("td", {}, String(call.caller)), el("td", {}, String(call.callee)))));
}

function takeAnswer(body) {
	const any = Number.isFinite(body.calls) && body.calls > 0 && Array.isArray(body.durations);

	byId("calls-body").hidden = !any;
	byId("calls-details").hidden = !any;
	if (!any) {
		showEmpty(byId("calls-empty"), "No calls yet", START_HINT);
		return;
	}
	byId("calls-empty").hidden = true;
	const list = (Array.isArray(body.minutes) ? body.minutes : []).filter(isMinute);

	minutes = list.length === 0 ? [] : fillMinutes(list);
	histogram = makeHistogram(body);
	showSums(body);
	if (minutes.length > 0) {
		byId("minutes").setAttribute("aria-label", `Calls by minute, ${minutes.length} minutes up to ${formatClockShort(minutes.at(-1).start_ms)}`);
		charts?.minutes.show(minutes.map((m) => (m.start_ms + MINUTE_MS / 2) / 1000), minutes.map((m) => m.calls), null, 60);
	}
	showDurations();
	showLongCalls(body);
}

showPages(byId("pages"), location.pathname);

const feed = createFeed({
	url: () => "/calls?minutes=60&limit=12",
	onAnswer: takeAnswer,
	onRefused: () => showEmpty(byId("calls-empty"), "The calls service is not there", "Start it with `make start SERVICE=calls`."),
	onState: (state) => showFeed(byId("calls-feed"), state),
});

byId("calls-feed").querySelector("button").addEventListener("click", () => feed.now());
feed.start();
