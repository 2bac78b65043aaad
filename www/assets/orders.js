/*
 * orders -- the order form, and each order with its way.
 *
 * The newest orders are polled as one page with an ETag, notifications by
 * their cursor.  Orders placed here stay in view when others push them off
 * that page: they are then asked for one by one until nothing more is to
 * come.  Every submission carries an Idempotency-Key that is kept until its
 * outcome is known, so a repeated request can't order twice.
 */
import { byId, el, say, setMessage, setText, showEmpty } from "./dom.js";
import { formatClock, formatSpan, formatTime, formatWhole } from "./format.js";
import { Problem, createFeed, isTransient, request } from "./poll.js";

const PAGE = 20;
const SHOWN = 6;
const MINE_MAX = 5;
const MINE_KEY = "millrace.placed";
const ATTEMPTS = 5;
const FILL_WAITS_MS = [800, 2000, 5000, 15000, 60000];
const OUTCOME = { CONFIRMED: "confirmed", REJECTED: "rejected", CANCELLED: "cancelled" };

const sleep = (ms) => new Promise((resolve) => {
	setTimeout(resolve, ms);
});
const isOrder = (o) => typeof o?.id === "string" && o.id !== "" && typeof o.status === "string";

/* crypto.randomUUID exists on https and localhost only. */
function newKey() {
	if (crypto.randomUUID !== undefined)
		return crypto.randomUUID();
	const bytes = crypto.getRandomValues(new Uint8Array(16));

	bytes[6] = (bytes[6] & 0x0f) | 0x40;
	bytes[8] = (bytes[8] & 0x3f) | 0x80;
	const hex = [...bytes].map((b) => b.toString(16).padStart(2, "0")).join("");

	return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/* -- an order's card ------------------------------------------------------ */

const WORDS = { done: "done: ", now: "in progress: ", todo: "to come: ", bad: "failed: " };
const MARKS = { done: "✓", now: "…", todo: "", bad: "✕" };

function stepNode({ state, title, aside, note }) {
	const text = el("span", { class: "step-text" }, el("span", { class: "unseen" }, WORDS[state]), el("span", { class: "step-title" }, title));

	if (aside)
		text.append(" ", el("span", { class: "step-aside" }, aside));
	if (note)
		text.append(" ", el("span", { class: "step-note" }, String(note)));
	return el("li", { class: "step", "data-state": state }, el("span", { class: "step-mark", "aria-hidden": "true" }, MARKS[state]), text);
}

function settledStep(order, entry) {
	switch (order.status) {
	case "PENDING":
		return [{ state: "now", title: "Inventory decides" }];
	case "REJECTED":
		return [{ state: "bad", title: "REJECTED", note: order.reason }];
	case "CANCELLED":
		return [
			...(entry.notes.has("confirmed") || entry.seen.has("CONFIRMED") ? [{ state: "done", title: "CONFIRMED" }] : []),
			{ state: "bad", title: "CANCELLED", note: order.reason },
		];
	default:
		return [{ state: "done", title: order.status, note: order.reason }];
	}
}

function lastStep(order, entry) {
	const wanted = OUTCOME[order.status];
	const note = entry.notes.get(wanted);

	if (order.status === "PENDING" || wanted === undefined)
		return { state: "todo", title: "Notification" };
	if (note === undefined)
		return { state: "now", title: "Notification", aside: "on its way" };
	return { state: "done", title: "Notified", note: note.message };
}

function waySteps(order, entry) {
	return [
		{ state: "done", title: "PENDING" },
		...settledStep(order, entry),
		lastStep(order, entry),
	];
}

/* UUIDs of one second differ at their ends; the whole key is in the title. */
const shortKey = (key) => key.replace(/[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}([0-9a-f]{12})/g, "…$1");

function traceRows(rows) {
	const list = (Array.isArray(rows) ? rows : []).filter((row) => row !== null && typeof row === "object");

	if (list.length === 0)
		return ["none here"];
	return list.map((row) => el("span", { class: "trace-row", title: String(row.key) },
	    el("code", {}, `${row.file ? `${row.file} ` : ""}${row.table}`), " ", el("span", { class: "trace-key" }, shortKey(String(row.key)))));
}

/*
 * Roles said outright: narrow pages lay the rows out as blocks.  An event
 * carries the time of the request behind it, so there are no spans to show.
 */
function traceTable(trace) {
	const heads = ["Event", "Topic", "Partition", "Offset", "Time", "Rows it became"];
	const cell = (label, ...children) => el("td", { role: "cell", "data-label": label }, ...children);
	const time = (event) => Number.isFinite(event.ts_ms) ? formatClock(event.ts_ms) : "";

	return el("table", { class: "numbers", role: "table" },
	    el("thead", { role: "rowgroup" }, el("tr", { role: "row" },
		...heads.map((head) => el("th", { role: "columnheader", scope: "col" }, head)))),
	    el("tbody", { role: "rowgroup" }, ...trace.map((event) => el("tr", { role: "row" },
		el("th", { role: "rowheader", scope: "row" }, String(event.type)),
		cell("topic", el("code", {}, String(event.topic))),
		cell("partition", String(event.partition ?? "")),
		cell("offset", String(event.offset ?? "not yet known")),
		cell("time", time(event)),
		cell("rows", ...traceRows(event.rows))))));
}

/* -- the whole ------------------------------------------------------------ */

export function startOrders(showFeed) {
	const entries = new Map();
	let mine = recallMine();
	let pageIds = [];
	let pageKnown = false;
	let allShown = false;
	let noteCursor = null;
	let stock = new Map();
	let submission = null;
	let asking = false;
	let ordersState = { kind: "connecting", silentMs: 0, reason: "" };

	function recallMine() {
		try {
			const list = JSON.parse(sessionStorage.getItem(MINE_KEY) ?? "[]");

			return Array.isArray(list) ? list.filter((id) => typeof id === "string").slice(0, MINE_MAX) : [];
		} catch {
			return [];
		}
	}

	function rememberMine() {
		try {
			sessionStorage.setItem(MINE_KEY, JSON.stringify(mine));
		} catch {
			/* they stay as long as the page does */
		}
	}

	/* -- what is known of an order ------------------------------------ */

	function entryOf(id) {
		let entry = entries.get(id);

		if (entry === undefined) {
			entry = { id, order: null, notes: new Map(), seen: new Set(), node: null, tries: 0, dueAt: 0, cancelling: false };
			entries.set(id, entry);
		}
		return entry;
	}

	function isWhole(entry) {
		return entry.order !== null && entry.order.status !== "PENDING"
		    && (OUTCOME[entry.order.status] === undefined || entry.notes.has(OUTCOME[entry.order.status]));
	}

	function takeOrder(order) {
		const entry = entryOf(order.id);
		const before = entry.order?.status;

		entry.order = order;
		entry.seen.add(order.status);
		if (before === order.status)
			return;
		entry.tries = 0;
		entry.dueAt = performance.now() + FILL_WAITS_MS[0];
		if (before === undefined)
			return;
		if (mine.includes(order.id))
			say(`Order of ${order.quantity} ${order.item}: ${order.status.toLowerCase()}${order.reason ? `, ${order.reason}` : ""}`);
		loadStock();
		if (entry.node !== null && !entry.node.querySelector(".trace").hidden)
			loadTrace(entry);
	}

	function takeNote(note) {
		if (typeof note?.order_id === "string" && typeof note.outcome === "string")
			entryOf(note.order_id).notes.set(note.outcome, note);
	}

	/* Forget what is neither in view nor placed here. */
	function prune() {
		const kept = new Set([...pageIds, ...mine]);

		for (const [id, entry] of entries) {
			if (!kept.has(id) && entries.size > 500) {
				entry.node?.remove();
				entries.delete(id);
			}
		}
	}

	/* -- cards -------------------------------------------------------- */

	function makeNode(entry) {
		const node = byId("order-template").content.firstElementChild.cloneNode(true);

		node.dataset.id = entry.id;
		node.querySelector(".order-cancel").addEventListener("click", () => cancel(entry));
		node.querySelector(".order-trace").addEventListener("click", (event) => {
			const region = node.querySelector(".trace");

			region.hidden = !region.hidden;
			event.currentTarget.setAttribute("aria-expanded", String(!region.hidden));
			if (!region.hidden)
				loadTrace(entry);
		});
		return node;
	}

	function showEntry(entry) {
		const { order, node } = entry;
		const what = `${order.quantity} × ${order.item}`;
		const created = Date.parse(order.created_at);
		const steps = waySteps(order, entry);
		const key = JSON.stringify(steps);
		const cancelButton = node.querySelector(".order-cancel");

		setText(node.querySelector(".order-quantity"), formatWhole(order.quantity));
		setText(node.querySelector(".order-item"), String(order.item));
		setText(node.querySelector(".order-id"), order.id);
		if (Number.isFinite(created)) {
			setText(node.querySelector(".order-time"), formatTime(created));
			node.querySelector(".order-time").dateTime = new Date(created).toISOString();
		}
		node.dataset.status = order.status;
		cancelButton.hidden = order.status !== "PENDING" && order.status !== "CONFIRMED";
		cancelButton.setAttribute("aria-label", `Cancel order of ${what}`);
		node.querySelector(".order-trace").setAttribute("aria-label", `Trace of ${what}`);
		if (node.dataset.key !== key) {
			node.dataset.key = key;
			node.querySelector(".way").replaceChildren(...steps.map(stepNode));
		}
	}

	/* Bring ${list} to ${ids} without touching what is in place already. */
	function showList(list, ids) {
		const wanted = new Set(ids);
		let next;

		for (const node of [...list.children]) {
			if (!wanted.has(node.dataset.id))
				node.remove();
		}
		next = list.firstElementChild;
		for (const id of ids) {
			const entry = entries.get(id);

			entry.node ??= makeNode(entry);
			showEntry(entry);
			if (entry.node === next)
				next = next.nextElementSibling;
			else
				list.insertBefore(entry.node, next);
		}
	}

	function show() {
		const placed = mine.filter((id) => entries.get(id)?.order);
		const others = pageIds.filter((id) => !placed.includes(id));
		const more = byId("latest-more");

		showList(byId("mine-list"), placed);
		showList(byId("latest-list"), allShown ? others : others.slice(0, SHOWN));
		byId("mine").hidden = placed.length === 0;
		byId("latest").hidden = others.length === 0;
		more.hidden = others.length <= SHOWN;
		more.setAttribute("aria-expanded", String(allShown));
		setText(more, allShown ? `Show only ${SHOWN}` : `Show all ${others.length}`);
		if (placed.length + others.length > 0)
			byId("orders-empty").hidden = true;
		else if (ordersState.kind === "stale")
			showEmpty(byId("orders-empty"), "The orders service does not answer", "`make status` says what runs, `make run` starts it. This page goes on by itself.");
		else if (pageKnown)
			showEmpty(byId("orders-empty"), "No orders yet", "Place one with the form, or from a terminal: "
			    + `\`curl -X POST ${location.origin}/orders -H 'Content-Type: application/json' -d '{"item":"Laptop","quantity":1}'\``);
	}

	/* -- trace and cancel --------------------------------------------- */

	async function loadTrace(entry) {
		const region = entry.node.querySelector(".trace");

		if (region.childElementCount === 0)
			region.replaceChildren(el("p", { class: "hint" }, "Loading"));
		try {
			const { body } = await request(`/orders/${encodeURIComponent(entry.id)}`);
			const trace = (Array.isArray(body.trace) ? body.trace : []).filter((event) => event !== null && typeof event === "object");

			region.replaceChildren(trace.length > 0 ? traceTable(trace)
			    : el("p", { class: "hint" }, "No event has been delivered yet."));
		} catch (error) {
			region.replaceChildren(el("p", { class: "hint" }, error instanceof Problem
			    ? `No trace: ${error.message}.` : "No trace: the orders service does not answer. Close and open it to try again."));
		}
	}

	async function cancel(entry) {
		const message = entry.node.querySelector(".order-error");
		const button = entry.node.querySelector(".order-cancel");

		if (entry.cancelling)
			return;
		entry.cancelling = true;
		button.setAttribute("aria-disabled", "true");
		setMessage(message, null);
		try {
			const { body } = await request(`/orders/${encodeURIComponent(entry.id)}`, { method: "DELETE" });

			if (document.activeElement === button)
				entry.node.querySelector(".order-trace").focus();
			if (isOrder(body))
				takeOrder(body);
		} catch (error) {
			setMessage(message, error instanceof Problem ? `Not cancelled: ${error.message}.`
			    : "Not known whether it was cancelled: no answer. Try again; a second cancel does no harm.");
		}
		entry.cancelling = false;
		button.removeAttribute("aria-disabled");
		orders.now();
		show();
	}

	/* -- the form ----------------------------------------------------- */

	const form = byId("order-form");
	const fields = { item: byId("item"), quantity: byId("quantity") };
	const submitButton = byId("order-submit");

	function showFieldError(name, text) {
		setMessage(byId(`${name}-error`), text);
		fields[name].setAttribute("aria-invalid", String(Boolean(text)));
	}

	function showFormMessage(text, kind) {
		setMessage(byId("form-message"), text);
		byId("form-message").dataset.kind = kind;
		if (text)
			say(text);
	}

	/* What the server would refuse anyway, said before it is asked. */
	function readForm() {
		const item = fields.item.value.trim();
		const quantity = Number(fields.quantity.value);
		const goodQuantity = fields.quantity.value.trim() !== "" && Number.isSafeInteger(quantity) && quantity >= 1;

		showFieldError("item", item === "" ? "Name an item." : null);
		showFieldError("quantity", goodQuantity ? null : "Give a whole number of at least 1.");
		if (item !== "" && goodQuantity)
			return JSON.stringify({ item, quantity });
		fields[item === "" ? "item" : "quantity"].focus();
		return null;
	}

	function showRefusal(error) {
		const known = error.errors.filter((e) => Object.hasOwn(fields, e?.field) && typeof e.message === "string");

		for (const { field, message } of known)
			showFieldError(field, message);
		if (known.length > 0) {
			showFormMessage(null, "error");
			fields[known[0].field].focus();
			return;
		}
		showFormMessage(`Not placed: ${error.message}.`, "error");
	}

	/* The same key over every try, so that at most one order comes of it. */
	async function post({ key, body }) {
		for (let attempt = 1; ; attempt++) {
			try {
				return await request("/orders", {
					method: "POST", body, timeoutMs: 10000,
					headers: { "Content-Type": "application/json", "Idempotency-Key": key },
				});
			} catch (error) {
				const waitMs = error.retryAfterMs ?? Math.min(1000 * 2 ** (attempt - 1), 8000);

				if (!isTransient(error) || attempt === ATTEMPTS)
					throw error;
				showFormMessage(`${error instanceof Problem && error.status === 503 ? "The orders service is busy" : "No answer"}, `
				    + `trying again in ${formatSpan(waitMs)}.`, "wait");
				await sleep(waitMs);
			}
		}
	}

	function placed(order) {
		mine = [order.id, ...mine.filter((id) => id !== order.id)].slice(0, MINE_MAX);
		rememberMine();
		takeOrder(order);
		showFormMessage(`Placed: ${order.quantity} × ${order.item}.`, "done");
		show();
		orders.now();
	}

	async function submit() {
		const body = submission?.busy ? null : readForm();

		if (body === null)
			return;
		/* An unknown outcome keeps its key as long as the order is the same. */
		if (submission?.body !== body)
			submission = { key: newKey(), body, busy: false };
		submission.busy = true;
		submitButton.setAttribute("aria-disabled", "true");
		setText(submitButton, "Placing…");
		showFormMessage(null, "wait");
		try {
			const answer = await post(submission);

			submission = null;
			if (isOrder(answer.body))
				placed(answer.body);
		} catch (error) {
			if (isTransient(error)) {
				submission.busy = false;
				showFormMessage("No answer from the orders service; whether the order was taken is not known. "
				    + "Place order sends the same request again, which never orders twice.", "error");
			} else {
				submission = null;
				showRefusal(error);
			}
		}
		submitButton.removeAttribute("aria-disabled");
		setText(submitButton, "Place order");
	}

	/* -- stock -------------------------------------------------------- */

	function showItemHint() {
		const item = fields.item.value.trim();
		const names = [...stock.keys()];

		if (names.length === 0)
			setText(byId("item-hint"), "");
		else if (item === "")
			setText(byId("item-hint"), `${names.length} items in stock, for example ${names.slice(0, 3).join(", ")}.`);
		else if (stock.has(item))
			setText(byId("item-hint"), `${formatWhole(stock.get(item))} on hand.`);
		else if (names.some((name) => name.toLowerCase().startsWith(item.toLowerCase())))
			setText(byId("item-hint"), "");
		else
			setText(byId("item-hint"), "Not in the catalogue: inventory will reject it.");
	}

	async function loadStock() {
		try {
			const { body } = await request("/stock");
			const list = (Array.isArray(body.stock) ? body.stock : []).filter((s) => typeof s?.item === "string" && Number.isFinite(s.on_hand));

			stock = new Map(list.map((s) => [s.item, s.on_hand]));
			byId("stock").replaceChildren(...list.map((s) => el("option", { value: s.item }, `${formatWhole(s.on_hand)} on hand`)));
		} catch {
			/* The list is a help, not a need: the form works without it. */
		}
		showItemHint();
	}

	/* -- feeds -------------------------------------------------------- */

	const orders = createFeed({
		url: () => `/orders?limit=${PAGE}`,
		onAnswer: (body) => {
			const list = (Array.isArray(body.orders) ? body.orders : []).filter(isOrder);

			pageKnown = true;
			pageIds = list.map((order) => order.id);
			list.forEach(takeOrder);
			prune();
			show();
		},
		onState: (state) => {
			ordersState = state;
			showFeed("orders", state);
			if (pageIds.length === 0)
				show();
			fill();
		},
	});

	const notes = createFeed({
		url: () => `/notifications?limit=100${noteCursor !== null ? `&since=${encodeURIComponent(noteCursor)}` : ""}`,
		onAnswer: (body) => {
			if (noteCursor !== null && body.cursor < noteCursor) {
				noteCursor = null;
				notes.restart();
				return;
			}
			noteCursor = Number.isFinite(body.cursor) ? body.cursor : noteCursor;
			(Array.isArray(body.notifications) ? body.notifications : []).forEach(takeNote);
			prune();
			show();
		},
		onRefused: () => {
			if (noteCursor !== null) {
				noteCursor = null;
				notes.restart();
			}
		},
		onState: (state) => {
			showFeed("notes", state);
		},
	});

	/*
	 * What the two feeds can't bring: an order of ours that left the newest
	 * page, and notifications older than the tail.  One request at a time,
	 * each order ever less often.
	 */
	async function fill() {
		const now = performance.now();
		const due = [...mine, ...pageIds].map(entryOf).find((entry) => !isWhole(entry) && entry.dueAt <= now
		    && (entry.order === null || entry.order.status !== "PENDING" || !pageIds.includes(entry.id)));

		if (asking || due === undefined || document.hidden)
			return;
		asking = true;
		due.dueAt = now + FILL_WAITS_MS[Math.min(++due.tries, FILL_WAITS_MS.length - 1)];
		try {
			if (due.order === null || due.order.status === "PENDING") {
				const { body } = await request(`/orders/${encodeURIComponent(due.id)}`);

				if (isOrder(body))
					takeOrder(body);
			} else {
				const { body } = await request(`/notifications?order_id=${encodeURIComponent(due.id)}`);

				(Array.isArray(body.notifications) ? body.notifications : []).forEach(takeNote);
			}
		} catch (error) {
			/* Placed here once, gone since: the data was reset. */
			if (error instanceof Problem && error.status === 404) {
				mine = mine.filter((id) => id !== due.id);
				rememberMine();
			}
		}
		asking = false;
		show();
	}

	form.addEventListener("submit", (event) => {
		event.preventDefault();
		submit();
	});
	for (const [name, input] of Object.entries(fields)) {
		input.addEventListener("input", () => {
			showFieldError(name, null);
			showItemHint();
		});
	}
	fields.item.addEventListener("focus", loadStock);
	byId("latest-more").addEventListener("click", () => {
		allShown = !allShown;
		show();
	});
	loadStock();
	orders.start();
	notes.start();
	return { retry: (feed) => (feed === "orders" ? orders : notes).now() };
}
