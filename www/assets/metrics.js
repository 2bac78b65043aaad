/*
 * metrics -- the page at /ui/metrics: a host's metric, and what is unusual.
 *
 * Host, metric and time are in the page's address.  The chart ends at the
 * newest sample, so that the clocks of server and reader need not agree.
 */
import { byId, el, setText, showEmpty } from "./dom.js";
import { showFeed, worstState } from "./feedline.js";
import { formatDay, formatMetric, formatSigned, formatTime, formatWhole } from "./format.js";
import { showPages } from "./nav.js";
import { createFeed } from "./poll.js";
import { createSeries } from "./series.js";

const TABLE_ROWS = 60;
const GAP_STEPS = 10; /* longer without a sample: a gap in the line */
const START_HINT = "Start with this host's own by `make start SERVICE=metric-producer`, or simulate some with `metric-producer --simulate 5`; the page fills by itself.";
const WINDOWS = new Map([
	["5m", { step: "1s", points: 300 }],
	["1h", { step: "1m", points: 60 }],
	["1d", { step: "1m", points: 1440 }],
	["30d", { step: "1h", points: 720 }],
]);

const isSeries = (s) => typeof s?.host === "string" && typeof s?.metric === "string";
const isPoint = (p) => ["ts_ms", "count", "min", "max", "mean"].every((key) => Number.isFinite(p?.[key]));
const unique = (list) => [...new Set(list)];
const signOf = (p) => (p.unusual === true ? Math.sign(p.score) : 0);

const asked = { host: "", metric: "", window: "5m" };
let series = [];
let chosen = null; /* the URL of it */
let shown = [];
let refused = null; /* why there is no answer to it */
const show = (value) => formatMetric(asked.metric, value);
const when = (ms) => (asked.window === "30d" ? `${formatDay(ms)}, ${formatTime(ms).slice(-8)}` : formatTime(ms));
const chart = globalThis.uPlot === undefined ? null : createSeries(byId("history"), { format: (value) => show(value), onCursor: showReadout });

/* -- what is asked ---------------------------------------------------------- */

function historyUrl() {
	const { step, points } = WINDOWS.get(asked.window);

	return asked.host === "" ? null : `/metrics-history?${new URLSearchParams({ host: asked.host, metric: asked.metric, step, points })}`;
}

function fill(select, values, chosen) {
	const now = [...select.options].map((o) => o.value);

	if (now.length !== values.length || now.some((value, i) => value !== values[i]))
		select.replaceChildren(...values.map((value) => el("option", { value }, value)));
	select.value = chosen;
}

/* Nothing of what was chosen before is to stand under the new title. */
function clear() {
	shown = [];
	refused = null;
	showNote();
	chart?.clear();
	byId("history").setAttribute("aria-label", "The metric over time");
	for (const id of ["history-readout", "sum-newest", "sum-least", "sum-greatest", "sum-samples", "sum-unusual"])
		setText(byId(id), "");
	byId("history-table").replaceChildren();
	byId("unusual-table").replaceChildren();
	byId("unusual-none").hidden = true;
}

function choose(next) {
	const metricsOf = (host) => series.filter((s) => s.host === host).map((s) => s.metric);

	Object.assign(asked, next);
	if (!WINDOWS.has(asked.window))
		asked.window = "5m";
	if (series.length > 0) {
		if (!series.some((s) => s.host === asked.host))
			asked.host = series[0].host;
		if (!metricsOf(asked.host).includes(asked.metric))
			[asked.metric] = metricsOf(asked.host);
		fill(byId("host"), unique(series.map((s) => s.host)), asked.host);
		fill(byId("metric"), metricsOf(asked.host), asked.metric);
	}
	byId("window").value = asked.window;
	if (series.length === 0 || historyUrl() === chosen)
		return;
	chosen = historyUrl();
	clear();
	setText(byId("metric-title"), `${asked.metric} of ${asked.host}`);
	byId("history-link").setAttribute("href", chosen);
	history.replaceState(null, "", `?${new URLSearchParams(asked)}`);
	feed.restart();
}

/* -- answers ---------------------------------------------------------------- */

function showNote() {
	if (series.length === 0)
		showEmpty(byId("metrics-empty"), "No metrics yet", START_HINT);
	else if (refused !== null)
		showEmpty(byId("metrics-empty"), "That can't be asked", refused);
	else
		byId("metrics-empty").hidden = true;
}

function takeSeries(body) {
	series = (Array.isArray(body.series) ? body.series : []).filter(isSeries);
	byId("metrics-body").hidden = series.length === 0;
	byId("unusual-card").hidden = series.length === 0;
	showNote();
	if (series.length > 0)
		choose({});
}

/* A row of nothing where the line is to break. */
function withGaps(points, stepMs) {
	const nothing = { min: null, max: null, mean: null, p99: null };

	return points.flatMap((p, i) => (i > 0 && p.ts_ms - points[i - 1].ts_ms > GAP_STEPS * stepMs ?
		[{ ...nothing, ts_ms: points[i - 1].ts_ms + stepMs }, p] : [p]));
}

function showReadout(index) {
	const p = index === null ? undefined : shown[index];

	setText(byId("history-readout"), p === undefined || p.mean === null ? "" :
	    `${when(p.ts_ms)}: ${show(p.mean)} (${show(p.min)} to ${show(p.max)}), ${formatWhole(p.count)} samples${signOf(p) === 0 ? "" : ", unusual"}`);
}

function showTables(points) {
	const unusual = points.filter((p) => signOf(p) !== 0).toReversed();
	const percentile = (value) => (Number.isFinite(value) ? show(value) : "–");

	byId("history-table").replaceChildren(...points.slice(-TABLE_ROWS).toReversed().map((p) => el("tr", {},
	    el("th", { scope: "row" }, when(p.ts_ms)), el("td", {}, formatWhole(p.count)),
	    ...[show(p.min), show(p.mean), percentile(p.p50), percentile(p.p99), show(p.max)].map((text) => el("td", {}, text)))));
	byId("unusual-table").replaceChildren(...unusual.slice(0, TABLE_ROWS).map((p) => el("tr", {},
	    el("th", { scope: "row" }, when(p.ts_ms)), el("td", {}, show(p.mean)), el("td", {}, formatSigned(p.score)))));
	byId("unusual-none").hidden = unusual.length > 0;
	setText(byId("sum-unusual"), formatWhole(unusual.length));
}

const sayAbsent = () => showEmpty(byId("metrics-empty"), "The rollups service is not there", "Start it with `make start SERVICE=rollups`.");

function takeRefusal(error) {
	if (error.status === 404) {
		sayAbsent();
		return;
	}
	clear();
	refused = error.message;
	showNote();
}

function takeHistory(body) {
	const points = (Array.isArray(body.points) ? body.points : []).filter(isPoint);
	const sum = (text) => (points.length === 0 ? "–" : text());

	if (body.host !== asked.host || body.metric !== asked.metric)
		return;
	refused = null;
	showNote();
	shown = withGaps(points, body.step_ms);
	setText(byId("sum-newest"), sum(() => show(points.at(-1).mean)));
	setText(byId("sum-least"), sum(() => show(Math.min(...points.map((p) => p.min)))));
	setText(byId("sum-greatest"), sum(() => show(Math.max(...points.map((p) => p.max)))));
	setText(byId("sum-samples"), formatWhole(points.reduce((total, p) => total + p.count, 0)));
	showTables(points);
	byId("history").setAttribute("aria-label", points.length === 0 ? "No samples in this time" :
	    `${asked.metric} of ${asked.host}, ${points.length} points up to ${when(points.at(-1).ts_ms)}`);
	chart?.show({
		times: shown.map((p) => p.ts_ms / 1000), least: shown.map((p) => p.min), greatest: shown.map((p) => p.max),
		means: shown.map((p) => p.mean), highs: shown.map((p) => p.p99 ?? null), marks: shown.map(signOf),
	});
}

showPages(byId("pages"), location.pathname);
for (const name of Object.keys(asked)) {
	asked[name] = new URLSearchParams(location.search).get(name) ?? asked[name];
	byId(name).addEventListener("change", (event) => choose({ [name]: event.target.value }));
}
if (!WINDOWS.has(asked.window))
	asked.window = "5m";
byId("choosers").addEventListener("submit", (event) => event.preventDefault());

const onState = () => showFeed(byId("metrics-feed"), worstState([list.state(), feed.state()]));
const list = createFeed({
	url: () => "/metrics-history/series",
	onAnswer: takeSeries,
	onRefused: sayAbsent,
	onState,
});
const feed = createFeed({ url: () => (series.length === 0 ? null : historyUrl()), onAnswer: takeHistory, onRefused: takeRefusal, onState });

byId("metrics-feed").querySelector("button").addEventListener("click", () => {
	list.now();
	feed.now();
});
list.start();
feed.start();
