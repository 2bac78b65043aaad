/*
 * stub -- the page's server for its checks: the files of www/ with the strict
 * Content-Security-Policy, uPlot from node_modules, and the JSON faces in
 * memory.  Faults are set from outside.
 *
 *   node tests/page/stub.mjs [port]     to look at the page in a browser
 */
import { createServer } from "node:http";
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { randomUUID } from "node:crypto";

const HERE = dirname(fileURLToPath(import.meta.url));
const WWW = join(HERE, "../../www");
const require = createRequire(import.meta.url);

/* The policy that nginx sends: one place to say it. */
const CSP = /^add_header Content-Security-Policy "([^"]+)" always;$/m
    .exec(readFileSync(join(HERE, "../../nginx/headers.conf"), "utf8"))[1];

const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };
const CATALOGUE = { Laptop: 42, Phone: 120, Tablet: 65, Headphones: 200, Keyboard: 80, Monitor: 15, "Last one": 1 };
const SYMBOLS = { ACME: 187.32, GLOBEX: 54.1, INITECH: 23.48, UMBRELLA: 312.9, STARK: 1204.55 };
const STEP_MS = { "1s": 1000, "1m": 60000, "1h": 3600000 };

/* A small seeded generator, so that a run can be had again. */
function random(seed) {
	let state = seed >>> 0;

	return () => {
		state = (state + 0x6d2b79f5) >>> 0;
		let t = Math.imul(state ^ (state >>> 15), state | 1);

		t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
		return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
	};
}

class Prices {
	constructor(seed, symbols) {
		this.rng = random(seed);
		this.points = [];
		this.seq = 0;
		this.last = { ...symbols };
	}

	add(symbol, tsMs) {
		const step = (this.rng() + this.rng() + this.rng() - 1.5) * this.last[symbol] * 0.0009;

		this.last[symbol] = Math.max(0.01, Math.round((this.last[symbol] + step) * 100) / 100);
		this.points.push({ seq: ++this.seq, symbol, ts_ms: tsMs, price: this.last[symbol] });
	}

	tick(tsMs = Date.now()) {
		for (const symbol of Object.keys(this.last))
			this.add(symbol, tsMs);
	}

	fill(seconds, stepMs) {
		const now = Date.now();

		for (let t = now - seconds * 1000; t < now; t += stepMs)
			this.tick(Math.round(t));
	}

	list() {
		return Object.keys(this.last).flatMap((symbol) => {
			const own = this.points.filter((p) => p.symbol === symbol).slice(-2);

			return own.length === 0 ? [] : [{
				symbol, price: own[own.length - 1].price, ts_ms: own[own.length - 1].ts_ms,
				change: Math.round((own[own.length - 1].price - own[0].price) * 100) / 100,
			}];
		});
	}

	newestMs(symbol) {
		return this.points.findLast((p) => p.symbol === symbol)?.ts_ms ?? 0;
	}

	/* A poll gives what came first, anything else the newest. */
	tail(symbol, since, windowS) {
		const from = Date.now() - windowS * 1000;
		const to = since === null ? this.newestMs(symbol) : Infinity;
		const all = this.points.filter((p) => p.symbol === symbol && p.seq > (since ?? 0) && p.ts_ms >= from && p.ts_ms <= to)
		    .sort((a, b) => a.ts_ms - b.ts_ms);
		const page = since === null ? all.slice(-5000) : all.slice(0, 5000);

		return { newest_ms: this.newestMs(symbol), points: page.map(({ ts_ms, price }) => ({ ts_ms, price })),
			cursor: since !== null && page.length === 5000 ? page.at(-1).seq : this.seq };
	}

	candles(symbol, stepMs, since) {
		const all = new Map();

		for (const p of this.points.filter((point) => point.symbol === symbol)) {
			const start = Math.floor(p.ts_ms / stepMs) * stepMs;
			const c = all.get(start) ?? { start_ms: start, open: p.price, high: p.price, low: p.price, close: p.price, count: 0 };

			all.set(start, { ...c, high: Math.max(c.high, p.price), low: Math.min(c.low, p.price), close: p.price, count: c.count + 1, seq: p.seq });
		}
		return [...all.values()].filter((c) => c.seq > since).map(({ seq, ...c }) => c);
	}
}

/* Lines of which every fifth is an error with a stack trace. */
class Alerts {
	constructor() {
		this.alerts = [];
		this.records = 0;
	}

	/* Of every three one fires, one is pending, one is over. */
	fill(count, startMs) {
		this.records += 100 * count;
		for (let i = 0; i < count; i++) {
			const id = this.alerts.length + 1;
			const state = ["resolved", "firing", "pending"][id % 3];
			const started = startMs + id * 1000;

			this.alerts.push({ id, rule: id % 2 ? "cpu-high" : "error-rate", severity: "critical", state, summary: `alert <b>no ${id}</b>`,
				...(id % 2 ? { kind: "threshold", host: "web-1", metric: "cpu_percent", value: 97.25, bound: 90 } :
					{ kind: "error_rate", service: "payments", value: 0.625, bound: 0.2 }),
				score: null, started_ms: started, fired_ms: state === "pending" ? null : started,
				resolved_ms: state === "resolved" ? started + 90000 : null, acknowledged_ms: null });
		}
	}

	answer(query, pollMs) {
		const limit = Number(query.get("limit") ?? 100);
		const fits = (a) => (query.get("state") ?? a.state) === a.state && (query.get("rule") ?? a.rule) === a.rule;
		const page = this.alerts.filter(fits).reverse().slice(0, limit);
		const count = (state) => this.alerts.filter((a) => a.state === state).length;

		return { alerts: page, pending: count("pending"), firing: count("firing"), records: this.records,
			next_after: page.length === limit ? page.at(-1).id : null, poll_ms: pollMs };
	}
}

class Logs {
	constructor() {
		this.entries = [];
	}

	fill(count, startMs) {
		for (let i = 0; i < count; i++) {
			const id = this.entries.length + 1;
			const error = id % 5 === 0;

			this.entries.push({ id, ts_ms: startMs + id * 100, level: error ? "error" : "info", service: id % 2 ? "web-shop" : "payments",
				host: "web-1", request_id: `r${Math.ceil(id / 4)}`, message: `\u{1F4B3} card ${error ? "refused" : "accepted"} <b>no ${id}</b>`,
				...(error ? { stack: "at refuse()\n\tat main()" } : {}) });
		}
	}

	services() {
		return [...new Set(this.entries.map((e) => e.service))].sort().map((service) => ({ service }));
	}

	answer(query, pollMs) {
		const levels = ["debug", "info", "warn", "error", "fatal"];
		const q = query.get("q") ?? "";
		const limit = Number(query.get("limit") ?? 100);
		const fits = (e) => e.message.includes(q) && (query.get("service") ?? e.service) === e.service &&
			levels.indexOf(e.level) >= levels.indexOf(query.get("level") ?? "debug") && (query.get("request_id") ?? e.request_id) === e.request_id;
		const found = this.entries.filter(fits).map((e) => {
			const at = q === "" ? -1 : e.message.indexOf(q);

			return at === -1 ? e : { ...e, message_hits: [[[...e.message.slice(0, at)].length, [...q].length]] };
		});
		const cursor = this.entries.length;

		if (query.has("since")) {
			const entries = found.filter((e) => e.id > Number(query.get("since"))).slice(0, limit);

			return { entries, cursor: entries.length === limit ? entries.at(-1).id : cursor, poll_ms: pollMs };
		}
		const page = found.filter((e) => e.id < Number(query.get("after") ?? Infinity)).reverse().slice(0, limit);

		return { entries: page, next_after: page.length === limit ? page.at(-1).id : null, cursor, poll_ms: pollMs };
	}
}

/* Minutes of a shop in which nothing surprises. */
class Analytics {
	constructor() {
		this.windows = [];
	}

	fill(minutes, startMs) {
		for (let i = 0; i < minutes; i++)
			this.windows.push({ start_ms: startMs + i * 60000, end_ms: startMs + (i + 1) * 60000, closed: i < minutes - 1,
				click: 90 + i, purchase: 8, signup: 2, late: 1, users: 40 + i, amount_minor: { EUR: 12345 } });
	}

	answer(what, query) {
		const sum = (key) => this.windows.reduce((total, w) => total + w[key], 0);
		const steps = { visit: 200, product: 120, cart: 60, checkout: 40, purchase: 30 };

		if (what === "windows")
			return { windows: this.windows };
		if (what === "top")
			return { top: this.windows.length === 0 ? [] : [{ name: query.get("what") === "users" ? "user-1" : "/product/<b>7</b>", events: 77 }] };
		if (what === "funnel")
			return { sessions: 200, funnel: Object.entries(steps).map(([step, sessions]) => ({ step, sessions })),
				correlations: [{ a: "cart", b: "search", sessions: 9, phi: -0.25 }, { a: "cart", b: "purchase", sessions: 30, phi: 0.5 },
					{ a: "search", b: "signup", sessions: 0, phi: null }] };
		return { events: { click: sum("click"), purchase: sum("purchase"), signup: sum("signup") }, late: sum("late"), users: 321,
			revenue: [{ currency: "EUR", purchases: sum("purchase"), amount_minor: 1234567 }],
			sessions: { count: 200, events: 900, duration_ms: 100000, with_purchase: 30 }, ever: { events: sum("click"), late: sum("late") } };
	}
}

/* Two hosts; each metric is calm but for its third newest point and the sixth. */
class Metrics {
	constructor() {
		this.points = [];
	}

	fill(count, newestMs) {
		for (let i = count - 1; i >= 0; i--)
			this.points.push({ ts_ms: newestMs - i * 1000, count: 4, min: 20, max: 60 + i % 3, mean: i === 2 ? 97.25 : 40 + i % 3,
				p50: 40, p99: 59.5, score: i === 2 ? 38.5 : i === 5 ? -9 : 0.5, unusual: i === 2 || i === 5 });
	}

	answer(what, query) {
		const names = ["cpu_percent", "network_sent_bytes_per_s"];

		if (what === "series")
			return { series: this.points.length === 0 ? [] : ["host-1", "web-<b>2</b>"].flatMap((host) => names.map((metric) => ({ host, metric }))) };
		return { host: query.get("host"), metric: query.get("metric"), step_ms: 1000,
			points: query.get("metric") === "cpu_percent" ? this.points : this.points.map((p) => ({ ...p, mean: p.mean * 1e5, max: p.max * 1e5 })) };
	}
}

/* Some thousand calls of exponential length, a minute's worth each second of a
 * test if one asks for more. */
class Calls {
	constructor(seed) {
		this.rng = random(seed);
		this.calls = 0;
		this.ms = 0;
		this.durations = Array(121).fill(0);
		this.minutes = new Map();
		this.long = [];
	}

	add(startedMs, ms = Math.round(-30000 * Math.log(1 - this.rng()))) {
		const minute = startedMs - startedMs % 60000;
		const sums = this.minutes.get(minute) ?? { start_ms: minute, calls: 0, ms: 0 };

		this.calls++;
		this.ms += ms;
		this.durations[Math.min(Math.max(Math.ceil(ms / 5000) - 1, 0), 120)]++;
		sums.calls++;
		sums.ms += ms;
		this.minutes.set(minute, sums);
		if (ms > 60000)
			this.long.unshift({ seq: this.long.length + 1, call_id: `1-${this.calls}`, caller: "+49300000007", callee: "agent-3", started_ms: startedMs, duration_s: ms / 1000 });
	}

	fill(count, fromMs) {
		for (let i = 0; i < count; i++)
			this.add(fromMs + Math.round(i * 3000000 / count));
	}

	answer(limit, pollMs) {
		return { calls: this.calls, duration_s: this.ms / 1000, bucket_s: 5, durations: this.durations,
			minutes: [...this.minutes.values()].map((m) => ({ start_ms: m.start_ms, calls: m.calls, duration_s: m.ms / 1000 })),
			long_call_s: 60, long_calls: this.long.slice(0, limit), poll_ms: pollMs };
	}
}

class Orders {
	constructor(stub) {
		this.stub = stub;
		this.list = [];
		this.notes = [];
		this.stock = { ...CATALOGUE };
		this.keys = new Map();
		this.offset = 40;
		this.count = 0;
	}

	event(order, type, topic, rows) {
		order.trace.push({ type, topic, partition: order.trace.length % 3, offset: this.offset++, ts_ms: Date.now(), rows });
	}

	note(order, outcome) {
		const text = { confirmed: `Your order of ${order.quantity} ${order.item} is confirmed.`,
			rejected: `Your order of ${order.quantity} ${order.item} was rejected: ${order.reason}.`,
			cancelled: `Your order of ${order.quantity} ${order.item} was cancelled.` };

		this.notes.push({ seq: this.notes.length + 1, order_id: order.id, outcome, message: text[outcome], created_at: new Date().toISOString() });
	}

	place(item, quantity) {
		const hex = Date.now().toString(16).padStart(12, "0");
		const id = `${hex.slice(0, 8)}-${hex.slice(8)}-7${randomUUID().slice(15)}`;
		const order = { id, item, quantity, status: "PENDING", created_at: new Date().toISOString(), trace: [] };

		this.count++;
		this.event(order, "order.created", "order-events", [{ file: "orders.db", table: "orders", key: id },
			{ file: "inventory.db", table: "reservations", key: id }]);
		this.list.unshift(order);
		if (this.stub.decideMs !== null)
			setTimeout(() => this.decide(order), this.stub.decideMs);
		return order;
	}

	decide(order) {
		if (order.status !== "PENDING")
			return;
		if (!Object.hasOwn(this.stock, order.item))
			order.reason = "unknown item";
		else if (this.stock[order.item] < order.quantity)
			order.reason = "not enough stock";
		order.status = order.reason ? "REJECTED" : "CONFIRMED";
		if (!order.reason)
			this.stock[order.item] -= order.quantity;
		this.event(order, order.reason ? "inventory.rejected" : "inventory.reserved", "inventory-events",
		    [{ file: "orders.db", table: "orders", key: order.id },
			    { file: "notifications.db", table: "notifications", key: `${order.id}/${order.status.toLowerCase()}` }]);
		setTimeout(() => this.note(order, order.status.toLowerCase()), this.stub.noteMs);
	}

	cancel(order) {
		order.status = "CANCELLED";
		this.event(order, "order.cancelled", "order-events", [{ file: "orders.db", table: "orders", key: order.id }]);
		setTimeout(() => this.note(order, "cancelled"), this.stub.noteMs);
	}
}

const view = ({ trace, ...order }) => order;

/* [status, body, headers] of a call; null: not ours. */
function answer(stub, method, url, body, headers) {
	const { prices, orders, pollMs } = stub;
	const query = url.searchParams;
	const parts = url.pathname.split("/").slice(1).map(decodeURIComponent);
	const since = Number(query.get("since") ?? 0);
	const problem = (status, detail, errors) => [status, { type: "about:blank", title: "Problem", status, detail, errors }];

	if (url.pathname === "/prices")
		return [200, { symbols: prices.list(), cursor: prices.seq, poll_ms: pollMs }];
	if (parts[0] === "prices" && !Object.hasOwn(prices.last, parts[1]))
		return problem(404, "no such symbol");
	if (parts[0] === "prices" && parts[2] === "candles")
		return [200, { symbol: parts[1], interval: query.get("interval"), newest_ms: prices.newestMs(parts[1]),
			candles: prices.candles(parts[1], STEP_MS[query.get("interval")], since), cursor: prices.seq, poll_ms: pollMs }];
	if (parts[0] === "prices")
		return [200, { symbol: parts[1], ...prices.tail(parts[1], query.has("since") ? since : null, Number(query.get("window") ?? 3600)), poll_ms: pollMs }];
	if (parts[0] === "stock" && parts.length === 2 && method === "POST") {
		orders.stock[parts[1]] = (orders.stock[parts[1]] ?? 0) + body.quantity;
		return [200, { item: parts[1], on_hand: orders.stock[parts[1]] }];
	}
	if (url.pathname === "/alerts")
		return [200, stub.alerts.answer(query, pollMs)];
	if (url.pathname === "/alerts/rules")
		return [200, { rules: [{ name: "cpu-high", kind: "threshold" }, { name: "error-rate", kind: "error_rate" }] }];
	if (parts[0] === "alerts" && parts[2] === "acknowledge" && method === "POST") {
		const alert = stub.alerts.alerts.find((a) => a.id === Number(parts[1]));

		if (alert === undefined)
			return problem(404, "there is no alert of this id");
		alert.acknowledged_ms ??= 1795658999000;
		return [200, { id: alert.id, acknowledged_ms: alert.acknowledged_ms }];
	}
	if (url.pathname === "/logs/services")
		return [200, { services: stub.logs.services(), poll_ms: pollMs }];
	if (url.pathname === "/logs" && query.get("q") === "\"")
		return problem(422, "q: has a quote that isn't closed", [{ field: "q", message: "has a quote that isn't closed" }]);
	if (url.pathname === "/logs")
		return [200, stub.logs.answer(query, pollMs)];
	if (parts[0] === "metrics-history")
		return [200, { ...stub.metrics.answer(parts[1], query), poll_ms: pollMs }];
	if (parts[0] === "analytics")
		return [200, { ...stub.analytics.answer(parts[1], query), poll_ms: pollMs }];
	if (url.pathname === "/calls")
		return [200, stub.calls.answer(Number(query.get("limit") ?? 20), pollMs)];
	if (url.pathname === "/stock")
		return [200, { stock: Object.entries(orders.stock).map(([item, on_hand]) => ({ item, on_hand })) }];
	if (url.pathname === "/notifications") {
		const id = query.get("order_id");

		return [200, { notifications: orders.notes.filter((n) => n.seq > since && (id === null || n.order_id === id)).slice(-100),
			cursor: orders.notes.length, poll_ms: pollMs }];
	}
	if (url.pathname === "/orders" && method === "GET")
		return [200, { orders: orders.list.slice(0, Number(query.get("limit") ?? 20)).map(view), next_after: null, poll_ms: pollMs }];
	if (url.pathname === "/orders" && method === "POST") {
		const key = headers["idempotency-key"];
		const errors = [];

		if (orders.keys.has(key))
			return [201, view(orders.keys.get(key))];
		if (typeof body.item !== "string" || Buffer.byteLength(body.item) > 64)
			errors.push({ field: "item", message: "must be 1 to 64 bytes" });
		if (!Number.isInteger(body.quantity) || body.quantity < 1 || body.quantity > 1000000)
			errors.push({ field: "quantity", message: "must be a whole number from 1 to 1000000" });
		if (errors.length > 0)
			return problem(422, "some fields are not right", errors);
		const order = orders.place(body.item, body.quantity);

		orders.keys.set(key, order);
		return [201, view(order), { Location: `/orders/${order.id}` }];
	}
	if (parts[0] === "orders") {
		const order = orders.list.find((o) => o.id === parts[1]);

		if (order === undefined)
			return problem(404, "no such order");
		if (method === "GET")
			return [200, order];
		if (order.status === "REJECTED" || stub.refuseCancel)
			return problem(409, "a rejected order can't be cancelled");
		if (order.status !== "CANCELLED")
			orders.cancel(order);
		return [200, view(order)];
	}
	return null;
}

async function sendFile(res, path) {
	const file = path.startsWith("/vendor/")
	    ? join(dirname(require.resolve("uplot")), path.slice("/vendor/".length))
	    : join(WWW, normalize(path === "/" ? "/index.html" : path.startsWith("/ui/") ? `${path}.html` : path));

	try {
		const bytes = await readFile(file);

		res.writeHead(200, { "Content-Type": TYPES[extname(file)] ?? "application/octet-stream",
			"Content-Security-Policy": CSP, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache" });
		res.end(bytes);
	} catch {
		res.writeHead(404, { "Content-Type": "text/plain" });
		res.end("not found\n");
	}
}

async function readBody(req) {
	const chunks = [];

	for await (const chunk of req)
		chunks.push(chunk);
	try {
		return chunks.length > 0 ? JSON.parse(Buffer.concat(chunks).toString()) : null;
	} catch {
		return undefined;
	}
}

/*
 * startStub -- a listening stub.
 *
 *   faults      {"<first path part>" or "/<path>": status, "hang", or "lose" (done, not answered)}
 *   log         every API request: {method, path, url, since, headers, status}
 *   live(ms)    prices move every ms; live(0) stops
 */
export async function startStub({ port = 0, pollMs = 1000, seed = 7, history = 900, symbols = SYMBOLS } = {}) {
	const stub = { pollMs, decideMs: 600, noteMs: 250, faults: {}, log: [], refuseCancel: false, prices: new Prices(seed, symbols), calls: new Calls(seed), analytics: new Analytics(), metrics: new Metrics(), logs: new Logs(), alerts: new Alerts() };
	let timer = null;

	stub.orders = new Orders(stub);
	if (history > 0)
		stub.prices.fill(history, history > 2000 ? 2000 : 1000);
	const server = createServer(async (req, res) => {
		const url = new URL(req.url, "http://stub");
		const first = url.pathname.split("/")[1];

		if (!["prices", "orders", "notifications", "stock", "calls", "analytics", "metrics-history", "logs", "alerts"].includes(first)) {
			await sendFile(res, url.pathname);
			return;
		}
		const entry = { method: req.method, path: url.pathname, url: req.url, since: url.searchParams.get("since"),
			headers: req.headers, at: Date.now(), open: true, status: null };
		const sameOpen = stub.log.some((e) => e.open && e.method === "GET" && e.path === entry.path && first !== "orders");
		const fault = stub.faults[first] ?? stub.faults[url.pathname] ?? stub.faults[`${req.method} ${first}`];

		entry.overlap = req.method === "GET" && sameOpen;
		stub.log.push(entry);
		res.on("close", () => {
			entry.open = false;
		});
		const body = await readBody(req);

		if (fault === "hang")
			return;
		if (typeof fault === "number") {
			entry.status = fault;
			res.writeHead(fault, { "Content-Type": "application/problem+json", ...(fault === 503 ? { "Retry-After": "1" } : {}) });
			res.end(JSON.stringify({ title: "Unavailable", status: fault }));
			return;
		}
		const [status, value, headers] = body === undefined ? [400, { status: 400, detail: "broken JSON" }]
		    : answer(stub, req.method, url, body, req.headers) ?? [404, { status: 404 }];
		const text = JSON.stringify(value);
		const etag = `"${Buffer.from(text).length}-${stub.prices.seq * (first === "prices")}-${hash(text)}"`;

		if (fault === "lose") {
			res.destroy();
			return;
		}
		entry.status = req.headers["if-none-match"] === etag ? 304 : status;
		res.writeHead(entry.status, { "Content-Type": status < 400 ? "application/json" : "application/problem+json",
			...(req.method === "GET" && status === 200 ? { ETag: etag } : {}), "Cache-Control": "no-cache", ...headers });
		res.end(entry.status === 304 ? undefined : text);
	});

	await new Promise((resolve) => {
		server.listen(port, "127.0.0.1", resolve);
	});
	stub.url = `http://localhost:${server.address().port}`;
	/* Everything forgotten, as after `make reset`. */
	stub.reset = () => {
		stub.prices = new Prices(seed + 1, symbols);
		stub.orders = new Orders(stub);
	};
	stub.live = (ms) => {
		clearInterval(timer);
		timer = ms > 0 ? setInterval(() => stub.prices.tick(), ms) : null;
	};
	stub.close = () => {
		stub.live(0);
		server.closeAllConnections();
		server.close();
	};
	return stub;
}

function hash(text) {
	let h = 0;

	for (let i = 0; i < text.length; i++)
		h = (Math.imul(h, 31) + text.charCodeAt(i)) | 0;
	return h >>> 0;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
	const stub = await startStub({ port: Number(process.argv[2] ?? 8001), history: 3600 });

	stub.live(500);
	console.log(stub.url);
}
