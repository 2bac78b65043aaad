/*
 * alerts -- the page at /ui/alerts: what fires, what may, and what is over.
 *
 * State and rule are in the page's address.  An alert's node stays as long as
 * the alert does not change, so that who is at its button stays there.
 */
import { byId, el, setMessage, setText, showEmpty, say } from "./dom.js";
import { showFeed } from "./feedline.js";
import { formatMetric, formatSigned, formatSpan, formatTime, formatWhole } from "./format.js";
import { showPages } from "./nav.js";
import { createFeed, request } from "./poll.js";

const ALERTS_A_PAGE = 100;
const ALERTS_MOST = 1000;
const START_HINT = "Start what is judged with `make start SERVICE=log-producer,metric-producer`; to see hosts with planted anomalies, `metric-producer --simulate 5 --anomaly-every 10m`.";
const QUIET_HINT = "Every rule is content. Rules of your own are a file: `alerts --rules FILE`; those in force are at `/alerts/rules`.";

const isAlert = (a) => Number.isInteger(a?.id) && typeof a?.state === "string" && typeof a?.rule === "string" && Number.isFinite(a?.started_ms);

const asked = { state: "", rule: "" };
const nodes = new Map(); /* by id: {key, node} */
let limit = ALERTS_A_PAGE;
let rulesKnown = false;

function parameters(more) {
	return new URLSearchParams(Object.entries({ ...asked, ...more }).filter(([, value]) => value !== "")).toString();
}

/* -- one alert --------------------------------------------------------------- */

const subjectOf = (a) => a.service ?? `${a.metric} of ${a.host}`;
const percent = (share) => `${formatWhole(100 * share)} %`;

function valueOf(a, value) {
	return a.kind === "error_rate" ? percent(value) : formatMetric(a.metric ?? "", value);
}

/* What was found, against what it is judged by. */
function whyOf(a) {
	if (a.score !== null && Number.isFinite(a.score))
		return `${valueOf(a, a.value)}, ${formatSigned(a.score)} deviations (unusual from ${a.bound} on)`;
	return a.kind === "error_rate" ? `${percent(a.value)} errors (alert above ${percent(a.bound)})` :
		`${valueOf(a, a.value)} (bound ${valueOf(a, a.bound)})`;
}

function timesOf(a) {
	const end = a.resolved_ms ?? null;

	if (end !== null)
		return `${formatTime(a.started_ms)}, for ${formatSpan(end - a.started_ms)}`;
	return `since ${formatTime(a.fired_ms ?? a.started_ms)}`;
}

/* A disabled button would drop the focus of who is at it. */
async function acknowledge(a, button) {
	if (button.getAttribute("aria-disabled") === "true")
		return;
	button.setAttribute("aria-disabled", "true");
	try {
		await request(`/alerts/${a.id}/acknowledge`, { method: "POST" });
		setMessage(byId("alerts-error"), "");
		say(`Acknowledged: ${a.rule}, ${subjectOf(a)}`);
		feed.now();
	} catch (error) {
		button.removeAttribute("aria-disabled");
		setMessage(byId("alerts-error"), `It could not be acknowledged: ${error.message}`);
	}
}

function showAlert(a) {
	const acknowledged = Number.isFinite(a.acknowledged_ms);
	const node = el("li", { class: "entry alert", "data-state": a.state }, el("div", {},
	    el("p", { class: "entry-head" }, el("span", { class: "level" }, a.state), el("span", {}, timesOf(a)), el("span", {}, String(a.severity ?? "")),
	        ...(acknowledged ? [el("span", {}, `acknowledged ${formatTime(a.acknowledged_ms)}`)] : [])),
	    el("p", { class: "alert-what" }, `${a.rule}: ${subjectOf(a)}`),
	    el("p", { class: "alert-why" }, [whyOf(a), a.summary].filter(Boolean).join(" · "))));

	if (!acknowledged && a.state !== "resolved") {
		const button = el("button", { type: "button", class: "quiet", "aria-label": `Acknowledge ${a.rule}, ${subjectOf(a)}` }, "Acknowledge");

		button.addEventListener("click", () => acknowledge(a, button));
		node.append(button);
	}
	return node;
}

/* -- answers ----------------------------------------------------------------- */

/* The nodes of these alerts, those of before where nothing changed. */
function takeNodes(alerts) {
	const list = alerts.map((a) => {
		const key = JSON.stringify(a);
		const known = nodes.get(a.id);

		if (known?.key === key)
			return known.node;
		nodes.set(a.id, { key, node: showAlert(a) });
		return nodes.get(a.id).node;
	});
	const ids = new Set(alerts.map((a) => a.id));

	for (const id of [...nodes.keys()].filter((known) => !ids.has(known)))
		nodes.delete(id);
	return list;
}

function showList(alerts) {
	const list = byId("alerts");
	const now = takeNodes(alerts);
	const focused = list.contains(document.activeElement) ? document.activeElement : null;

	if (now.length === list.children.length && now.every((node, i) => node === list.children[i]))
		return;
	list.replaceChildren(...now);
	/* Moving a node takes the focus from it. */
	if (focused !== null)
		(list.contains(focused) ? focused : list.querySelector("button") ?? byId("alerts-title")).focus({ preventScroll: true });
}

function takeAlerts(body) {
	const alerts = (Array.isArray(body.alerts) ? body.alerts : []).filter(isAlert);
	const more = Number.isInteger(body.next_after);

	setText(byId("sum-firing"), formatWhole(body.firing ?? 0));
	setText(byId("sum-pending"), formatWhole(body.pending ?? 0));
	setText(byId("sum-records"), formatWhole(body.records ?? 0));
	setText(byId("alerts-count"), alerts.length === 0 ? "" : `${formatWhole(alerts.length)}${more ? " and more" : ""}`);
	showList(alerts);
	byId("older").hidden = !more || limit >= ALERTS_MOST;
	byId("alerts-empty").hidden = alerts.length > 0;
	if (alerts.length === 0 && (asked.state !== "" || asked.rule !== ""))
		showEmpty(byId("alerts-empty"), "No alert fits", "Another state or rule may have some.");
	else if (alerts.length === 0)
		showEmpty(byId("alerts-empty"), body.records > 0 ? "No alerts" : "Nothing to judge yet", body.records > 0 ? QUIET_HINT : START_HINT);
	if (!rulesKnown)
		loadRules();
}

async function loadRules() {
	rulesKnown = true;
	try {
		const { body } = await request("/alerts/rules");
		const names = (Array.isArray(body.rules) ? body.rules : []).map((r) => r?.name).filter((name) => typeof name === "string");

		byId("rule").replaceChildren(el("option", { value: "" }, "all"), ...[...new Set([...names, asked.rule])].filter(Boolean).map((name) => el("option", { value: name }, name)));
		byId("rule").value = asked.rule;
	} catch {
		rulesKnown = false; /* with the next answer */
	}
}

/* -- what is asked ----------------------------------------------------------- */

showPages(byId("pages"), location.pathname);
for (const name of Object.keys(asked)) {
	asked[name] = new URLSearchParams(location.search).get(name) ?? "";
	byId(name).value = asked[name];
	byId(name).addEventListener("change", (event) => {
		asked[name] = event.target.value;
		limit = ALERTS_A_PAGE;
		history.replaceState(null, "", `?${parameters({})}`);
		feed.restart();
	});
}
byId("choosers").addEventListener("submit", (event) => event.preventDefault());
byId("older").addEventListener("click", () => {
	limit = Math.min(limit + ALERTS_A_PAGE, ALERTS_MOST);
	feed.restart();
});

const feed = createFeed({
	url: () => `/alerts?${parameters({ limit: String(limit) })}`,
	onAnswer: takeAlerts,
	onRefused: (error) => (error.status === 404 ?
		showEmpty(byId("alerts-empty"), "The alerts service is not there", "Start it with `make start SERVICE=alerts`.") :
		showEmpty(byId("alerts-empty"), "That can't be asked", error.message)),
	onState: (state) => showFeed(byId("alerts-feed"), state),
});

byId("alerts-feed").querySelector("button").addEventListener("click", () => feed.now());
feed.start();
