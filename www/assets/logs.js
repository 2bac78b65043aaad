/*
 * logs -- the page at /ui/logs: a search, its lines, and those that come.
 *
 * The first answer is a page of the newest; from its cursor on the feed asks
 * only for what is new, and puts it on top.
 */
import { byId, el, setMessage, setText, showEmpty } from "./dom.js";
import { showFeed } from "./feedline.js";
import { formatTime, formatWhole } from "./format.js";
import { showPages } from "./nav.js";
import { createFeed, request } from "./poll.js";

const LINES_A_PAGE = 100;
const LINES_MOST = 1000;
const TYPING_MS = 250;
const START_HINT = "Start services that write some with `make start SERVICE=log-producer`; lines appear by themselves.";

const isEntry = (e) => Number.isFinite(e?.id) && Number.isFinite(e?.ts_ms) && typeof e?.message === "string" && typeof e?.level === "string";
const entriesOf = (body) => (Array.isArray(body.entries) ? body.entries : []).filter(isEntry);
const isHit = (h) => Array.isArray(h) && Number.isInteger(h[0]) && Number.isInteger(h[1]);

/* What is searched for, as in the page's address. */
let asked = { q: "", service: "", level: "", request_id: "" };
let cursor = null;
let nextAfter = null;

function parameters(more) {
	const list = new URLSearchParams();

	for (const [name, value] of Object.entries({ ...asked, ...more }))
		if (value !== "")
			list.set(name, value);
	return list.toString();
}

/* Text with its hits marked; they count Unicode characters. */
function marked(text, hits) {
	const characters = Array.from(text);
	const parts = [];
	let at = 0;

	for (const [first, count] of (Array.isArray(hits) ? hits : []).filter(isHit)) {
		parts.push(characters.slice(at, first).join(""), el("mark", {}, characters.slice(first, first + count).join("")));
		at = first + count;
	}
	parts.push(characters.slice(at).join(""));
	return parts;
}

function showEntry(entry) {
	const head = el("p", { class: "entry-head" },
	    el("span", {}, formatTime(entry.ts_ms)), el("span", { class: "level" }, entry.level),
	    el("span", {}, entry.host ? `${entry.service} on ${entry.host}` : String(entry.service)));
	const node = el("li", { class: "entry", "data-level": entry.level }, head, el("p", { class: "message" }, ...marked(entry.message, entry.message_hits)));

	if (entry.request_id) {
		const link = el("button", { type: "button", class: "link" }, `request ${entry.request_id}`);

		link.addEventListener("click", () => search({ q: "", service: "", level: "", request_id: entry.request_id }));
		head.append(link);
	}
	if (entry.stack) {
		const details = el("details", {}, el("summary", {}, "Stack trace"), el("pre", { class: "stack" }, ...marked(entry.stack, entry.stack_hits)));

		details.open = Array.isArray(entry.stack_hits);
		node.append(details);
	}
	return node;
}

function showCount() {
	const count = byId("entries").children.length;
	const any = Object.values(asked).some((value) => value !== "");

	setText(byId("lines-count"), count === 0 ? "" : `${formatWhole(count)}${nextAfter === null ? "" : " and more"}`);
	byId("older").hidden = nextAfter === null || count >= LINES_MOST;
	if (count > 0)
		byId("logs-empty").hidden = true;
	else if (any)
		showEmpty(byId("logs-empty"), "No line fits", "Other words, another service or level may find some.");
	else
		showEmpty(byId("logs-empty"), "No lines yet", START_HINT);
}

function takeAnswer(body) {
	const list = byId("entries");
	const nodes = entriesOf(body).map(showEntry);

	setMessage(byId("q-error"), null);
	/* More came than one answer holds, and what it holds came first: the tail
	 * is to show now, not to fall behind answer by answer. */
	if (cursor !== null && nodes.length >= LINES_A_PAGE) {
		cursor = null;
		feed.restart();
		return;
	}
	if (cursor === null) {
		list.replaceChildren(...nodes);
		nextAfter = body.next_after ?? null;
	} else {
		list.prepend(...nodes.reverse());
		while (list.children.length > LINES_MOST) {
			list.lastElementChild.remove();
			nextAfter = null;
		}
	}
	cursor = Number.isFinite(body.cursor) ? body.cursor : cursor;
	showCount();
}

function takeRefusal(error) {
	if (error.status === 422)
		setMessage(byId("q-error"), error.message);
	else
		showEmpty(byId("logs-empty"), "The logs service is not there", "Start it with `make start SERVICE=logs`.");
}

async function showOlder() {
	const before = parameters({});
	const from = nextAfter;
	/* Another search may have begun meanwhile, the list begun anew, or an
	 * answer to the same have come. */
	const isOver = () => before !== parameters({}) || from !== nextAfter;

	try {
		const { body } = await request(`/logs?${parameters({ limit: LINES_A_PAGE, after: from })}`);

		if (isOver())
			return;
		nextAfter = body.next_after ?? null;
		byId("entries").append(...entriesOf(body).map(showEntry));
		showCount();
	} catch (error) {
		if (!isOver())
			setText(byId("lines-count"), `Older lines could not be had: ${error.message}`);
	}
}

const feed = createFeed({
	url: () => {
		if (cursor === null)
			return `/logs?${parameters({ limit: LINES_A_PAGE })}`;
		return byId("tail").checked ? `/logs?${parameters({ limit: LINES_A_PAGE, since: cursor })}` : null;
	},
	onAnswer: takeAnswer,
	onRefused: takeRefusal,
	onState: (state) => showFeed(byId("logs-feed"), state),
});

const services = createFeed({ url: () => "/logs/services", onAnswer: takeServices });

function takeServices(body) {
	const select = byId("service");
	const known = new Set([...select.options].map((option) => option.value));

	for (const { service } of Array.isArray(body.services) ? body.services : [])
		if (typeof service === "string" && !known.has(service))
			select.append(el("option", { value: service }, service));
	select.value = asked.service;
}

function search(next) {
	asked = next;
	cursor = null;
	nextAfter = null;
	byId("q").value = asked.q;
	byId("level").value = asked.level;
	byId("service").value = asked.service;
	byId("request").hidden = asked.request_id === "";
	setText(byId("request"), `Only request ${asked.request_id}: show all`);
	history.replaceState(null, "", `${location.pathname}${parameters({}) === "" ? "" : `?${parameters({})}`}`);
	feed.restart();
}

function typed() {
	search({ q: byId("q").value.trim(), service: byId("service").value, level: byId("level").value, request_id: asked.request_id });
}

let typing = 0;

byId("q").addEventListener("input", () => {
	clearTimeout(typing);
	typing = setTimeout(typed, TYPING_MS);
});
byId("service").addEventListener("change", typed);
byId("level").addEventListener("change", typed);
byId("search").addEventListener("submit", (event) => {
	event.preventDefault();
	typed();
});
byId("request").addEventListener("click", () => search({ q: "", service: "", level: "", request_id: "" }));
byId("older").addEventListener("click", showOlder);
byId("logs-feed").querySelector("button").addEventListener("click", () => feed.now());

showPages(byId("pages"), location.pathname);
const address = new URLSearchParams(location.search);

search(Object.fromEntries(Object.keys(asked).map((name) => [name, address.get(name) ?? ""])));
feed.start();
services.start();
