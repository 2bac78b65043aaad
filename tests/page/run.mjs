/*
 * run -- the page's checks, in Chromium.
 *
 *   node tests/page/run.mjs                  all, against the stub
 *   MILLRACE_URL=http://localhost:8000 \
 *       node tests/page/run.mjs              those that any system must pass
 *   node tests/page/run.mjs word             those whose name has the word
 *
 * playwright-core and uplot come from the project's node_modules or, without
 * them, from NODE_PATH.  One line a check, "ok ..." or "FAIL ..."; the last
 * line is "N passed, N failed".  Nothing sleeps and hopes, but for the checks
 * of what must not happen: those watch for a stated time.
 */
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { startStub } from "./stub.mjs";

const require = createRequire(import.meta.url);
const { chromium } = require("playwright-core");

const REAL_URL = process.env.MILLRACE_URL ?? null;
const ONLY = process.argv[2] ?? "";
const PATIENCE_MS = REAL_URL === null ? 8000 : 30000;
const POLL_MS = 200;
const UUID4 = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

const checks = [];
const troubles = [];
const planted = [];
const check = (name, run, options = {}) => checks.push({ name, run, ...options });
const anywhere = { real: true };

/* -- tools ---------------------------------------------------------------- */

const sleep = (ms) => new Promise((resolve) => {
	setTimeout(resolve, ms);
});

/* Wait until ${probe} gives something true; what it gave last is in the message. */
async function until(what, probe, patienceMs = PATIENCE_MS) {
	const end = Date.now() + patienceMs;
	let got;

	do {
		got = await probe();
		if (got)
			return got;
		await sleep(30);
	} while (Date.now() < end);
	throw new Error(`not within ${patienceMs} ms: ${what} (last: ${JSON.stringify(got)})`);
}

const text = async (page, selector) => (await page.locator(selector).first().textContent() ?? "").trim();

/* A feed may have tried again by itself, and hidden the button. */
const retryNow = (page, feed) => page.evaluate((at) => {
	document.querySelector(`${at} button`).click();
}, feed);

/* Of the chart's canvas: how many pixels are drawn, and a sum that moves with them. */
const chartInk = (page, selector = "#chart") => page.evaluate((at) => {
	const canvas = document.querySelector(`${at} canvas`);
	const copy = new OffscreenCanvas(canvas?.width || 1, canvas?.height || 1).getContext("2d", { willReadFrequently: true });
	let drawn = 0;
	let sum = 0;

	if (canvas === null || canvas.width === 0)
		return { drawn, sum };
	copy.drawImage(canvas, 0, 0);
	const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);

	for (let i = 3; i < data.length; i += 4) {
		if (data[i] !== 0) {
			drawn++;
			sum = (sum * 31 + i + data[i - 1]) >>> 0;
		}
	}
	return { drawn, sum };
}, selector);

const setHidden = (page, hidden) => page.evaluate((value) => {
	Object.defineProperty(document, "hidden", { configurable: true, get: () => value });
	Object.defineProperty(document, "visibilityState", { configurable: true, get: () => (value ? "hidden" : "visible") });
	document.dispatchEvent(new Event("visibilitychange"));
}, hidden);

const drawn = (page) => until("a chart", async () => (await chartInk(page)).drawn > 500);
const live = (page) => until("prices live", async () => await page.getAttribute("#prices-feed", "data-state") === "live");
const first = (page) => page.locator("#mine-list > .order").first();

async function place(page, item, quantity) {
	const before = await page.locator("#mine-list > .order").count();

	await page.fill("#item", item);
	await page.fill("#quantity", String(quantity));
	await page.click("#order-submit");
	await until("the placed order in the list", async () => {
		const count = await page.locator("#mine-list > .order").count();

		return (count > before || count === 5) && await first(page).locator(".order-item").textContent() === item;
	});
}

const way = (page) => first(page).locator(".step").allInnerTexts();
const wayHas = (page, what) => until(`a way with ${what}`, async () => (await way(page)).join(" | ").includes(what));

/* -- prices --------------------------------------------------------------- */

check("the chart draws and moves with the prices", async ({ page, stub }) => {
	await drawn(page);
	const before = await chartInk(page);
	const price = await text(page, "#quote-price");

	stub?.live(100);
	await until("a chart that differs", async () => (await chartInk(page)).sum !== before.sum);
	await until("a price that differs", async () => await text(page, "#quote-price") !== price);
	await live(page);
}, anywhere);

check("the quote is the newest price of the answer", async ({ page, stub }) => {
	await drawn(page);
	stub.prices.tick();
	const last = stub.prices.last.ACME.toFixed(2);

	await until("the newest price", async () => await text(page, "#quote-price") === last);
});

check("nothing new is asked with the ETag and answered 304, and nothing is drawn again", async ({ page, stub }) => {
	await drawn(page);
	await until("a 304 of the tail", () => stub.log.some((e) => e.path === "/prices/ACME" && e.status === 304));
	await until("a 304 of the orders", () => stub.log.some((e) => e.path === "/orders" && e.status === 304));
	const before = await chartInk(page);
	const at = stub.log.length;

	await until("five more turns", () => stub.log.slice(at).filter((e) => e.path === "/prices/ACME").length >= 5);
	assert.ok(stub.log.slice(at).filter((e) => e.path === "/prices/ACME").every((e) => e.status === 304 && e.headers["if-none-match"]));
	assert.equal((await chartInk(page)).sum, before.sum);
	await live(page);
});

check("the tail sends the cursor and never two requests at once", async ({ page, stub }) => {
	stub.live(50);
	await drawn(page);
	await until("ten turns", () => stub.log.filter((e) => e.path === "/prices/ACME").length >= 10);
	const tail = stub.log.filter((e) => e.path === "/prices/ACME");

	assert.equal(tail[0].since, null);
	assert.ok(tail.slice(1).every((e) => Number(e.since) > 0));
	assert.deepEqual(stub.log.filter((e) => e.overlap).map((e) => e.url), []);
});

check("the server's poll interval is kept", async ({ page, stub }) => {
	await drawn(page);
	stub.pollMs = 700;
	stub.prices.tick();
	await sleep(1000);
	const at = stub.log.length;

	await sleep(3500);
	const turns = stub.log.slice(at).filter((e) => e.path === "/prices/ACME").length;

	assert.ok(turns >= 4 && turns <= 6, `${turns} turns in 3.5 s at 700 ms`);
});

check("a chosen symbol and window are asked for and kept in the address", async ({ page, stub }) => {
	await drawn(page);
	await page.check('input[name="symbol"][value="STARK"]', { force: true });
	await page.check('input[name="window"][value="60"]', { force: true });
	await until("the request", () => stub.log.some((e) => e.url.startsWith("/prices/STARK?window=60")));
	await until("the quote", async () => await text(page, "#quote-symbol") === "STARK" && await text(page, "#quote-price") !== "");
	assert.match(page.url(), /symbol=STARK&window=60/);
	await page.reload();
	await until("the quote again", async () => await text(page, "#quote-symbol") === "STARK");
	assert.ok(await page.isChecked('input[name="window"][value="60"]'));
	assert.ok(await page.isChecked('input[name="symbol"][value="STARK"]'));
});

check("the hour is drawn as candles", async ({ page }) => {
	await drawn(page);
	await page.check('input[name="window"][value="3600"]', { force: true });
	await until("open, high, low, close", async () => /Open.*High.*Low.*Close/.test(await text(page, "#readout")));
	await drawn(page);
}, anywhere);

check("a candle sent again replaces the one before", async ({ page, stub }) => {
	await page.check('input[name="window"][value="3600"]', { force: true });
	await page.click("#table-toggle");
	const rows = () => page.locator("#table-body tr").allInnerTexts();

	await until("a table of candles", async () => (await rows()).length > 5);
	for (let i = 0; i < 5; i++) {
		stub.prices.tick();
		await sleep(POLL_MS);
	}
	await until("the newest close", async () => (await rows())[0].includes(stub.prices.last.ACME.toFixed(2)));
	const minutes = (await rows()).map((row) => row.split("\t")[0]);

	assert.equal(new Set(minutes).size, minutes.length);
});

check("the table holds the last 50 prices, newest first", async ({ page, stub }) => {
	await drawn(page);
	assert.equal(await page.getAttribute("#table-toggle", "aria-expanded"), "false");
	await page.click("#table-toggle");
	assert.equal(await page.getAttribute("#table-toggle", "aria-expanded"), "true");
	await until("rows", async () => {
		const count = await page.locator("#table-body tr").count();

		return stub === null ? count > 1 : count === 50;
	});
	await until("the quote's price on top", async () => (await page.locator("#table-body tr").first().innerText()).includes(await text(page, "#quote-price")));
}, anywhere);

check("hidden it asks nothing, shown it catches up at once", async ({ page, stub }) => {
	stub.pollMs = 1000;
	await page.reload();
	await drawn(page);
	await setHidden(page, true);
	await sleep(300);
	const at = stub.log.length;

	for (let i = 0; i < 20; i++) {
		stub.prices.tick();
		await sleep(125);
	}
	assert.deepEqual(stub.log.slice(at).map((e) => e.url), []);
	const last = stub.prices.last.ACME.toFixed(2);
	const began = Date.now();

	await setHidden(page, false);
	await until("the newest price", async () => await text(page, "#quote-price") === last);
	assert.ok(Date.now() - began < 600, `caught up after ${Date.now() - began} ms`);
	const asked = stub.log.slice(at).find((e) => e.path === "/prices/ACME");

	assert.ok(Number(asked.since) > 0, "caught up from the cursor");
	assert.equal(await page.getAttribute("#prices-feed", "data-state"), "live");
});

check("hidden it asks nothing of the real system either", async ({ page }) => {
	const asked = [];

	await drawn(page);
	await setHidden(page, true);
	await sleep(300);
	page.on("request", (request) => asked.push(request.url()));
	await sleep(3000);
	assert.deepEqual(asked, []);
	await setHidden(page, false);
	await until("requests again", () => asked.length > 0);
}, anywhere);

for (const fault of [502, "hang"]) {
	check(`silence of the server (${fault}) is shown, backed off from, and over by itself`, async ({ page, stub }) => {
		await drawn(page);
		stub.faults.prices = fault;
		await until("a stale state", async () => /no answer for \d+ s.*retrying/.test(await text(page, "#prices-feed .feed-text")));
		assert.equal(await page.getAttribute(".chart-frame", "data-stale"), "true");
		await until("it is said", async () => /does not answer/.test(await text(page, "#say")));
		const at = stub.log.length;

		await page.evaluate(() => {
			globalThis.said = 0;
			new MutationObserver(() => globalThis.said++).observe(document.getElementById("say"), { childList: true });
		});
		await sleep(3000);
		assert.equal(await page.evaluate(() => globalThis.said), 0, "it is said once");
		const turns = stub.log.slice(at).filter((e) => e.path === "/prices/ACME").length;

		assert.ok(turns <= 4, `${turns} requests in 3 s of silence`);
		assert.equal(await page.getAttribute("#orders-feed", "data-state"), "live", "the other services' feeds go on");
		delete stub.faults.prices;
		stub.prices.tick();
		const last = stub.prices.last.ACME.toFixed(2);

		await until("the newest price", async () => await text(page, "#quote-price") === last, 16000);
		await until("live again", async () => await page.getAttribute("#prices-feed", "data-state") === "live", 16000);
		assert.equal(await page.getAttribute(".chart-frame", "data-stale"), "false");
		await until("its end is said", async () => /answers again/.test(await text(page, "#say")));
	});
}

check("Retry now asks at once", async ({ page, stub }) => {
	await drawn(page);
	stub.faults.prices = "hang";
	await until("a stale state", async () => await page.getAttribute("#prices-feed", "data-state") === "stale");
	delete stub.faults.prices;
	const began = Date.now();

	await page.click("#prices-feed button");
	await live(page);
	assert.ok(Date.now() - began < 1500);
});

check("a producer that stopped is called quiet, not stale", async ({ page }) => {
	await drawn(page);
	await until("quiet", async () => /No new price for 1\d s/.test(await text(page, "#prices-feed")), 15000);
});

check("prices of a clock that was ahead are off the chart once it is right", async ({ page, stub }) => {
	const quoteIs = async () => await text(page, "#quote-price") === stub.prices.last.ACME.toFixed(2);
	const rows = () => page.locator("#table-body tr").count();

	await drawn(page);
	await page.click("#table-toggle");
	await until("the rows before", async () => await rows() === 50);
	stub.prices.tick(Date.now() + 3 * 86400000);
	await until("the price from ahead", quoteIs);
	stub.prices.tick();
	await until("the price of now", quoteIs);
	await until("the rows of before, again", async () => await rows() === 50);
	/* Both in one answer. */
	stub.prices.tick(Date.now() + 4000);
	stub.prices.tick();
	await until("the price of now, again", quoteIs);
	assert.equal(await rows(), 50);
	await page.check('input[name="window"][value="3600"]', { force: true });
	await until("candles", async () => await rows() > 5);
});

check("data that was reset is read anew", async ({ page, stub }) => {
	await drawn(page);
	stub.reset();
	stub.prices.fill(30, 1000);
	const last = stub.prices.last.ACME.toFixed(2);

	await until("the newest price", async () => await text(page, "#quote-price") === last);
	await page.click("#table-toggle");
	await until("only new points", async () => {
		const rows = await page.locator("#table-body tr").count();

		return rows > 20 && rows <= 31;
	});
});

check("without uPlot the page says so and the table still works", async ({ page, base }) => {
	await page.route("**/vendor/*.js", (route) => route.fulfill({ status: 404 }));
	await page.goto(base);
	await until("the message", async () => (await text(page, "#chart-empty")).includes("make"));
	await page.click("#table-toggle");
	await until("rows", async () => await page.locator("#table-body tr").count() > 1);
}, anywhere);

check("without prices and orders the page says how to get them", async ({ page }) => {
	await until("the prices' hint", async () => (await text(page, "#prices-empty")).includes("make start SERVICE=price-producer"));
	await until("the orders' hint", async () => (await text(page, "#orders-empty")).includes("curl -X POST"));
	assert.equal(await page.isVisible("#prices-body"), false);
}, { stub: { history: 0 } });

/* -- orders --------------------------------------------------------------- */

check("an order is placed and goes PENDING, CONFIRMED, notified", async ({ page, stub }) => {
	if (stub !== null)
		stub.decideMs = null;
	await place(page, "Laptop", 1);
	if (stub !== null) {
		assert.match((await way(page)).join(" "), /PENDING.*Inventory decides.*Notification/s);
		stub.orders.decide(stub.orders.list[0]);
	}
	await wayHas(page, "CONFIRMED");
	await until("a notification", async () => {
		const last = await first(page).locator(".step").last();

		return await last.getAttribute("data-state") === "done" && await last.locator(".step-note").count() === 1;
	});
	if (stub !== null) {
		const post = stub.log.find((e) => e.method === "POST");

		assert.match(post.headers["idempotency-key"], UUID4);
		assert.match(post.headers["content-type"], /^application\/json/);
	}
}, anywhere);

check("an order that can't be filled is REJECTED with the reason", async ({ page }) => {
	await place(page, "Perpetual motion machine", 1);
	await wayHas(page, "REJECTED");
	assert.equal(await first(page).locator(".order-cancel").isVisible(), false);
	const reason = await first(page).locator('.step[data-state="bad"] .step-note').textContent();

	assert.ok(reason.trim().length > 3, "a reason");
	await until("a notification", async () => await first(page).locator(".step").last().getAttribute("data-state") === "done");
}, anywhere);

check("the trace names topic, partition and offset", async ({ page }) => {
	await place(page, "Laptop", 1);
	await wayHas(page, "CONFIRMED");
	await first(page).locator(".order-trace").click();
	await until("the events", async () => {
		const rows = await first(page).locator(".trace tbody tr").allInnerTexts();

		return rows.length >= 2 && /order\.created\s+order-events\s+\d+\s+\d+/.test(rows[0]) && /inventory-events\s+\d+\s+\d+/.test(rows[1]);
	});
	assert.equal(await first(page).locator(".order-trace").getAttribute("aria-expanded"), "true");
}, anywhere);

check("an order is cancelled", async ({ page }) => {
	await place(page, "Laptop", 1);
	await wayHas(page, "CONFIRMED");
	await first(page).locator(".order-cancel").click();
	await wayHas(page, "CANCELLED");
	assert.equal(await first(page).locator(".order-cancel").isVisible(), false);
	await until("a notification", async () => await first(page).locator(".step").last().getAttribute("data-state") === "done");
}, anywhere);

check("a refused cancel says why", async ({ page, stub }) => {
	await place(page, "Laptop", 1);
	stub.refuseCancel = true;
	await first(page).locator(".order-cancel").click();
	await until("the reason", async () => (await first(page).locator(".order-error").innerText()).includes("can't be cancelled"));
});

check("an answer that got lost is asked for again with the same key: one order", async ({ page, stub }) => {
	stub.faults["POST orders"] = "lose";
	await page.fill("#item", "Phone");
	await page.click("#order-submit");
	await until("a first try", () => stub.log.some((e) => e.method === "POST"));
	delete stub.faults["POST orders"];
	await until("the order", async () => await page.locator("#mine-list > .order").count() === 1);
	const keys = stub.log.filter((e) => e.method === "POST").map((e) => e.headers["idempotency-key"]);

	assert.ok(keys.length >= 2);
	assert.equal(new Set(keys).size, 1);
	assert.equal(stub.orders.count, 1);
	await place(page, "Tablet", 1);
	assert.notEqual(stub.log.filter((e) => e.method === "POST").at(-1).headers["idempotency-key"], keys[0]);
});

check("a key is drawn where crypto.randomUUID is missing, off localhost without TLS", async ({ page, stub }) => {
	await page.evaluate(() => {
		crypto.randomUUID = undefined;
	});
	await place(page, "Phone", 1);
	assert.match(stub.log.find((e) => e.method === "POST").headers["idempotency-key"], UUID4);
});

check("a busy service is asked again after Retry-After", async ({ page, stub }) => {
	stub.faults["POST orders"] = 503;
	await page.fill("#item", "Phone");
	await page.click("#order-submit");
	await until("the wait is said", async () => (await text(page, "#form-message")).includes("busy"));
	delete stub.faults["POST orders"];
	await until("the order", async () => await page.locator("#mine-list > .order").count() === 1);
	const posts = stub.log.filter((e) => e.method === "POST");

	assert.ok(posts[1].at - posts[0].at >= 900, "waited");
	assert.equal(posts[0].headers["idempotency-key"], posts[1].headers["idempotency-key"]);
});

check("a second click while an order is on its way places nothing", async ({ page, stub }) => {
	stub.faults["POST orders"] = "hang";
	await page.fill("#item", "Phone");
	await page.click("#order-submit");
	await page.click("#order-submit", { force: true });
	await page.keyboard.press("Enter");
	await page.focus("#item");
	await page.keyboard.press("Enter");
	await sleep(300);
	assert.equal(stub.log.filter((e) => e.method === "POST").length, 1);
});

check("errors stand next to their fields", async ({ page, stub }) => {
	await page.fill("#item", "");
	await page.fill("#quantity", "0");
	await page.click("#order-submit");
	assert.equal(await text(page, "#item-error"), "Name an item.");
	assert.match(await text(page, "#quantity-error"), /whole number/);
	assert.equal(await page.evaluate(() => document.activeElement.id), "item");
	assert.equal(stub?.log.filter((e) => e.method === "POST").length ?? 0, 0);
	await page.fill("#item", "Laptop");
	await page.fill("#quantity", "99999999999999");
	await page.click("#order-submit");
	await until("the server's message at the quantity", async () => await page.isVisible("#quantity-error"));
	assert.equal(await page.getAttribute("#quantity", "aria-invalid"), "true");
	assert.ok((await page.getAttribute("#quantity", "aria-describedby")).includes("quantity-error"));
	assert.equal(await page.evaluate(() => document.activeElement.id), "quantity");
	await page.fill("#quantity", "2");
	assert.equal(await page.isVisible("#quantity-error"), false);
}, anywhere);

check("orders of others appear, and what is open stays open", async ({ page, stub }) => {
	stub.orders.place("Phone", 3);
	await until("the order", async () => await page.locator("#latest-list > .order").count() === 1);
	await page.locator("#latest-list .order-trace").click();
	await page.locator("#latest-list .trace tbody tr").first().waitFor();
	for (let i = 0; i < 3; i++)
		stub.orders.place("Tablet", 1);
	await until("four orders", async () => await page.locator("#latest-list > .order").count() === 4);
	assert.ok(await page.locator("#latest-list > .order").last().locator(".trace").isVisible());
	assert.ok(await page.evaluate(() => document.activeElement.classList.contains("order-trace")), "the focus stayed");
});

check("an order placed here is followed though many others push it off the list", async ({ page, stub }) => {
	stub.decideMs = null;
	await place(page, "Laptop", 2);
	const own = stub.orders.list[0];

	for (let i = 0; i < 40; i++)
		stub.orders.place("Phone", 1);
	await sleep(2 * POLL_MS);
	stub.orders.decide(own);
	await wayHas(page, "CONFIRMED");
	await until("its notification", async () => await first(page).locator(".step").last().getAttribute("data-state") === "done");
	await page.reload();
	await wayHas(page, "Notified");
});

check("a silent notifications service is named", async ({ page, stub }) => {
	stub.faults.notifications = 502;
	await until("the message", async () => /Notifications: no answer.*502/.test(await page.locator("#notes-feed").innerText()));
	delete stub.faults.notifications;
	await until("its end", async () => !(await page.isVisible("#notes-feed")), 16000);
});

/* -- outside text --------------------------------------------------------- */

const ATTACK = "<img src=x onerror=\"document.title=1\"><script>alert(1)</script>";

check("markup in an item stays text", async ({ page }) => {
	const before = await page.title();

	await place(page, ATTACK, 1);
	await wayHas(page, "REJECTED");
	await first(page).locator(".order-trace").click();
	await until("the trace", async () => await first(page).locator(".trace tbody tr").count() > 0);
	assert.equal(await page.locator("main img, main script").count(), 0);
	assert.equal(await page.title(), before);
	assert.equal(await first(page).locator(".order-item").textContent(), ATTACK);
}, anywhere);

check("markup in symbols, reasons and notifications stays text", async ({ page, stub }) => {
	await drawn(page);
	assert.equal(await text(page, "#quote-symbol"), ATTACK);
	assert.equal(await text(page, ".chip-name"), ATTACK);
	await place(page, "Laptop", 1);
	await wayHas(page, "Notified");
	stub.orders.list[0].status = "REJECTED";
	stub.orders.list[0].reason = ATTACK;
	stub.orders.note(stub.orders.list[0], "rejected");
	await wayHas(page, ATTACK);
	assert.equal(await page.locator("main img, main script").count(), 0);
}, { stub: { symbols: { [ATTACK]: 10.5 } } });

/* -- access --------------------------------------------------------------- */

/* The element with the focus, and whether one can see that it has it. */
const focus = (page) => page.evaluate(() => {
	const node = document.activeElement;
	const drawnOn = node.type === "radio" ? node.nextElementSibling : node;
	const style = getComputedStyle(drawnOn);
	const box = drawnOn.getBoundingClientRect();

	return { id: node.id, name: node.getAttribute("name"), value: node.value, className: node.className,
		seen: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2 && box.width > 0 && box.top >= 0 };
});

async function tabTo(page, wanted, steps = 25) {
	for (let i = 0; i < steps; i++) {
		await page.keyboard.press("Tab");
		const at = await focus(page);

		assert.ok(at.seen, `focus is visible at ${JSON.stringify(at)}`);
		if (wanted(at))
			return;
	}
	throw new Error("the focus never came there");
}

check("all of it works by keyboard alone", async ({ page }) => {
	await drawn(page);
	await page.keyboard.press("Tab");
	assert.equal((await focus(page)).className, "skip");
	await page.keyboard.press("Enter");
	await tabTo(page, (at) => at.name === "symbol");
	const symbol = await text(page, "#quote-symbol");
	const several = await page.locator('input[name="symbol"]').count() > 1;

	await page.keyboard.press("ArrowRight");
	if (several)
		await until("another symbol", async () => await text(page, "#quote-symbol") !== symbol);
	await tabTo(page, (at) => at.name === "window");
	await page.keyboard.press("ArrowLeft");
	assert.ok(await page.isChecked('input[name="window"][value="60"]'));
	await tabTo(page, (at) => at.id === "chart");
	await drawn(page);
	await page.keyboard.press("ArrowLeft");
	await page.keyboard.press("ArrowLeft");
	await until("the value is said", async () => /Time .*Price /.test(await text(page, "#say")));
	await tabTo(page, (at) => at.id === "table-toggle");
	await page.keyboard.press("Enter");
	assert.ok(await page.isVisible("#table-region"));
	await tabTo(page, (at) => at.id === "item");
	await page.keyboard.type("Laptop");
	await tabTo(page, (at) => at.id === "quantity");
	await page.keyboard.press("ArrowUp");
	await page.keyboard.press("Enter");
	await until("the order", async () => await page.locator("#mine-list > .order").count() > 0);
	assert.equal(await first(page).locator(".order-quantity").textContent(), "2");
	await wayHas(page, "CONFIRMED");
	await tabTo(page, (at) => at.className.includes("order-trace"));
	await page.keyboard.press("Space");
	await first(page).locator(".trace tbody tr").first().waitFor();
}, anywhere);

check("the live region is not chatty", async ({ page, stub }) => {
	stub.live(100);
	await drawn(page);
	await page.evaluate(() => {
		globalThis.said = 0;
		for (const node of document.querySelectorAll("[aria-live], [role=status], [role=alert]"))
			new MutationObserver(() => globalThis.said++).observe(node, { childList: true, characterData: true, subtree: true });
	});
	await sleep(3000);
	assert.equal(await page.evaluate(() => globalThis.said), 0);
});

check("every control has a name, every id is single, headings are in order", async ({ page }) => {
	await place(page, "Laptop", 1);
	const found = await page.evaluate(() => {
		const wrong = [];
		const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
		const levels = [...document.querySelectorAll("h1, h2, h3")].map((node) => Number(node.tagName[1]));

		for (const node of document.querySelectorAll("button, input, a")) {
			const name = node.getAttribute("aria-label") ?? node.labels?.[0]?.textContent ?? node.textContent;

			if (!name?.trim())
				wrong.push(node.outerHTML);
		}
		if (new Set(ids).size !== ids.length)
			wrong.push("an id is used twice");
		for (const node of document.querySelectorAll("[aria-describedby], [aria-labelledby], [aria-controls]")) {
			for (const id of ["describedby", "labelledby", "controls"].flatMap((a) => node.getAttribute(`aria-${a}`)?.split(" ") ?? [])) {
				if (document.getElementById(id) === null)
					wrong.push(`no #${id}`);
			}
		}
		if (levels[0] !== 1 || levels.some((level, i) => i > 0 && level > levels[i - 1] + 1))
			wrong.push(`headings ${levels.join(" ")}`);
		return wrong;
	});

	assert.deepEqual(found, []);
}, anywhere);

/* The ratio of WCAG 2 of each visible text to what it stands on, worst first. */
const contrasts = (page) => page.evaluate(() => {
	const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
	const rgba = (colour) => {
		context.clearRect(0, 0, 1, 1);
		context.fillStyle = colour;
		context.fillRect(0, 0, 1, 1);
		const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;

		return { c: [r, g, b], a: a / 255 };
	};
	const over = (top, below) => top.c.map((v, i) => v * top.a + below[i] * (1 - top.a));
	const ground = (node) => {
		if (node === null)
			return [255, 255, 255];
		const own = rgba(getComputedStyle(node).backgroundColor);

		return own.a === 1 ? own.c : over(own, ground(node.parentElement));
	};
	const light = (c) => c.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
	    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
	const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	const list = [];

	for (let node = walker.nextNode(); node !== null; node = walker.nextNode()) {
		const parent = node.parentElement;
		const box = parent.getBoundingClientRect();

		if (!node.data.trim() || box.width < 2 || !parent.checkVisibility() || parent.closest(".unseen, script, noscript, template, datalist"))
			continue;
		const below = ground(parent);
		const pair = [light(over(rgba(getComputedStyle(parent).color), below)), light(below)].sort((a, b) => b - a);

		list.push({ ratio: Math.round(((pair[0] + 0.05) / (pair[1] + 0.05)) * 100) / 100, text: node.data.trim().slice(0, 40) });
	}
	return list.sort((a, b) => a.ratio - b.ratio);
});

for (const scheme of ["light", "dark"]) {
	check(`text has the contrast of AA in ${scheme}`, async ({ page, stub }) => {
		await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
		await place(page, "Laptop", 1);
		await wayHas(page, "Notified");
		stub.decideMs = null;
		await place(page, "Time machine", 1);
		await page.click("#table-toggle");
		await page.fill("#item", "");
		await page.click("#order-submit");
		await page.locator(".order-trace").last().click();
		stub.faults = { prices: 502, notifications: 502 };
		await until("stale states", async () => await page.getAttribute("#notes-feed", "data-state") === "stale"
		    && await page.getAttribute("#prices-feed", "data-state") === "stale");
		const list = await contrasts(page);

		assert.ok(list.length > 40, `${list.length} texts`);
		assert.deepEqual(list.filter(({ ratio }) => ratio < 4.5), []);
	});
}

check("dark follows the system, and the choice is remembered", async ({ page }) => {
	const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);

	await page.emulateMedia({ colorScheme: "light" });
	const bright = await ground();

	await page.emulateMedia({ colorScheme: "dark" });
	const dark = await ground();

	assert.notEqual(bright, dark);
	await page.click("#theme");
	assert.equal(await ground(), bright);
	await page.reload();
	assert.equal(await ground(), bright);
	assert.equal(await text(page, "#theme-text"), "Use dark colours");
	await page.click("#theme");
	assert.equal(await ground(), dark);
	await page.emulateMedia({ colorScheme: "light" });
	assert.equal(await ground(), bright, "back to what the system prefers");
}, anywhere);

check("the chart takes the colours of the theme", async ({ page }) => {
	await drawn(page);
	const before = await chartInk(page);

	await page.click("#theme");
	await until("a redrawn chart", async () => (await chartInk(page)).sum !== before.sum);
});

for (const width of [360, 820, 1600]) {
	check(`nothing is cut off at ${width} px`, async ({ page }) => {
		await page.setViewportSize({ width, height: 800 });
		await place(page, `${"Long".repeat(16)}`, 1);
		await first(page).locator(".order-trace").click();
		await page.click("#table-toggle");
		await sleep(300);
		const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
		const chart = await page.evaluate(() => document.querySelector("#chart .uplot")?.getBoundingClientRect().width
		    - document.querySelector("#chart").clientWidth);

		assert.equal(wide, 0, "no sideways scrolling");
		assert.ok(Math.abs(chart) <= 1, `the chart fits (${chart})`);
	}, anywhere);
}

check("nothing moves by itself when less motion is wanted", async ({ page, stub }) => {
	stub.decideMs = null;
	await page.emulateMedia({ reducedMotion: "no-preference" });
	await place(page, "Laptop", 1);
	assert.ok(await page.evaluate(() => document.getAnimations().length) > 0, "otherwise something does");
	await page.emulateMedia({ reducedMotion: "reduce" });
	await until("stillness", () => page.evaluate(() => document.getAnimations().length === 0));
});

check("the page carries the strict policy", async ({ page, base }) => {
	const response = await page.request.get(`${base}/`);
	const policy = response.headers()["content-security-policy"] ?? "";

	for (const part of ["default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'"])
		assert.ok(policy.includes(part), `${part} in "${policy}"`);
	assert.doesNotMatch(policy, /unsafe/);
}, anywhere);

check("a violation of the policy would have been noticed", async ({ page }) => {
	await page.evaluate(() => {
		document.body.setAttribute("style", "color: red");
	});
	await until("the report", () => planted.some((t) => t.includes("style-src")));
}, { real: true, plants: true });

/* -- each page's own ------------------------------------------------------ */

/* At no width does the page scroll sideways, or the header hide where one is. */
async function fitsAllWidths(page) {
	for (const width of [320, 390, 820, 1280, 1920]) {
		await page.setViewportSize({ width, height: 900 });
		await until(`no scrolling sideways at ${width}`, () => page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth));
		await until(`the current page is named in the header at ${width}`, () => page.evaluate(() => {
			const link = document.querySelector("#pages a[aria-current=page]").getBoundingClientRect();
			const strip = document.querySelector(".pages").getBoundingClientRect();

			return link.left >= strip.left && link.right <= strip.right;
		}));
	}
}

/* -- calls ---------------------------------------------------------------- */

async function openCalls(page, stub, base) {
	stub?.calls.fill(3000, 1795658820000);
	await page.goto(`${base}/ui/calls`);
	await until("the calls live", async () => await page.getAttribute("#calls-feed", "data-state") === "live");
}

check("calls: sums, both charts and long calls are shown", async ({ page, stub, base }) => {
	await openCalls(page, stub, base);
	await until("bars of minutes", async () => (await chartInk(page, "#minutes")).drawn > 500);
	await until("bars of durations", async () => (await chartInk(page, "#durations")).drawn > 500);
	assert.equal(await text(page, "#sum-calls"), "3,000");
	assert.match(await text(page, "#sum-mean"), /^(29|30|31)\.\d s$/);
	assert.equal(await text(page, "#sum-minute"), "60");
	assert.equal(await page.locator("#long-table tr").count(), 12);
	/* The page can't know what the flag says. */
	assert.match(await text(page, "#long-hint"), /^Longer than 60 s; .*\(--long-calls-log\), once\.$/);
	const rows = await page.locator("#durations-table tr").evaluateAll((list) => list.map((row) => [...row.cells].map((cell) => cell.textContent)));
	const [seconds, calls, expected] = rows[0];

	assert.equal(seconds, "0 to 5");
	/* 3000 (1 - exp(-5/30)) of them, within four standard deviations. */
	assert.ok(Math.abs(Number(calls) - 461) < 80, calls);
	assert.ok(Math.abs(Number(expected) - 461) < 20, expected);
	assert.equal(await page.locator("#pages a[aria-current=page]").innerText(), "Calls");
});

check("calls: durations are rounded once", async ({ page, stub, base }) => {
	const shown = [[119400, "119.4 s"], [179600, "3 min 0 s"], [7199600, "2 h 0 min"]];

	for (const [ms] of shown)
		stub.calls.add(1795658820000, ms);
	await page.goto(`${base}/ui/calls`);
	await until("long calls", async () => await page.locator("#long-table tr").count() === shown.length);
	assert.deepEqual(await page.locator("#long-table tr > :nth-child(2)").allTextContents(), shown.map(([, said]) => said).reverse());
});

check("calls: new ones move the page, and nothing new is answered 304", async ({ page, stub, base }) => {
	await openCalls(page, stub, base);
	await until("a 304", () => stub.log.some((e) => e.path === "/calls" && e.status === 304));
	const before = await chartInk(page, "#durations");

	stub.calls.fill(2000, 1795658820000);
	await until("the sum", async () => await text(page, "#sum-calls") === "5,000");
	assert.notEqual((await chartInk(page, "#durations")).sum, before.sum);
});

check("calls: without any, and without an answer, the page says so", async ({ page, stub, base }) => {
	await page.goto(`${base}/ui/calls`);
	await until("no calls yet", async () => /No calls yet/.test(await text(page, "#calls-empty")));
	stub.faults.calls = 502;
	await until("stale", async () => /No answer for \d+ s.*retrying/.test(await text(page, "#calls-feed .feed-text")));
	delete stub.faults.calls;
	await retryNow(page, "#calls-feed");
	await until("live again", async () => await page.getAttribute("#calls-feed", "data-state") === "live");
});

check("calls: fits a phone and a wide window, and takes the theme's colours", async ({ page, stub, base }) => {
	await openCalls(page, stub, base);
	await fitsAllWidths(page);
	const before = await chartInk(page, "#durations");

	await page.click("#theme");
	await until("other colours", async () => (await chartInk(page, "#durations")).sum !== before.sum);
});

/* -- analytics ------------------------------------------------------------ */

async function openAnalytics(page, stub, base) {
	stub?.analytics.fill(30, 1795658820000);
	await page.goto(`${base}/ui/analytics`);
	await until("analytics live", async () => await page.getAttribute("#analytics-feed", "data-state") === "live");
}

check("analytics: sums, minutes, funnel and the most active are shown", async ({ page, stub, base }) => {
	await openAnalytics(page, stub, base);
	await until("bars of minutes", async () => (await chartInk(page, "#minutes")).drawn > 500);
	assert.equal(await text(page, "#sum-events"), "3,435");
	assert.equal(await text(page, "#sum-users"), "321");
	assert.equal(await text(page, "#sum-buying"), "15%");
	assert.match(await text(page, "#revenue"), /EUR, 240 purchases\s*12,345\.67/);
	assert.deepEqual(await page.locator("#funnel meter").evaluateAll((list) => list.map((m) => m.value)), [1, 0.6, 0.3, 0.2, 0.15]);
	assert.deepEqual(await page.locator("#together-table tr").allInnerTexts().then((rows) => rows.map((r) => r.replace(/\s+/g, " "))),
	    ["cart and purchase 30 0.50", "cart and search 9 \u22120.25"]);
	/* What a producer calls a page is text, whatever it looks like. */
	assert.equal(await text(page, "#pages-table th"), "/product/<b>7</b>");
	assert.equal(await text(page, "#users-table th"), "user-1");
	await page.click(".as-table summary");
	assert.deepEqual(await page.locator("#minutes-table tr").first().locator("td").allInnerTexts(), ["119", "8", "2", "1", "69", "not yet"]);
	assert.equal(await page.locator("#pages a[aria-current=page]").innerText(), "Analytics");
});

check("analytics: without events, and without an answer, the page says so", async ({ page, stub, base }) => {
	await page.goto(`${base}/ui/analytics`);
	await until("no events yet", async () => /No events yet.*SERVICE=event-producer/s.test(await text(page, "#analytics-empty")));
	stub.faults.analytics = 502;
	await until("stale", async () => /No answer for \d+ s.*retrying/.test(await text(page, "#analytics-feed .feed-text")));
	delete stub.faults.analytics;
	stub.analytics.fill(5, 1795658820000);
	await retryNow(page, "#analytics-feed");
	await until("the sum", async () => await text(page, "#sum-users") === "321");
});

check("analytics: one part without an answer is told, and asked again by Retry now", async ({ page, stub, base }) => {
	await openAnalytics(page, stub, base);
	await until("bars of minutes", async () => (await chartInk(page, "#minutes")).drawn > 500);
	stub.faults["/analytics/windows"] = "hang";
	await until("stale", async () => /No answer for \d+ s.*retrying/.test(await text(page, "#analytics-feed .feed-text")));
	delete stub.faults["/analytics/windows"];
	await retryNow(page, "#analytics-feed");
	await until("live at once", async () => await page.getAttribute("#analytics-feed", "data-state") === "live", 4000);
});

check("analytics: fits a phone and a wide window, and takes the theme's colours", async ({ page, stub, base }) => {
	await openAnalytics(page, stub, base);
	await fitsAllWidths(page);
	const before = await chartInk(page, "#minutes");

	await page.click("#theme");
	await until("other colours", async () => (await chartInk(page, "#minutes")).sum !== before.sum);
});

/* -- metrics -------------------------------------------------------------- */

async function openMetrics(page, stub, base, search = "") {
	stub?.metrics.fill(60, 1795658820000);
	await page.goto(`${base}/ui/metrics${search}`);
	await until("metrics live", async () => await page.getAttribute("#metrics-feed", "data-state") === "live");
}

check("metrics: a host's metric is drawn, with what is unusual in it", async ({ page, stub, base }) => {
	await openMetrics(page, stub, base);
	await until("a line", async () => (await chartInk(page, "#history")).drawn > 500);
	assert.equal(await text(page, "#metric-title"), "cpu_percent of host-1");
	assert.equal(await text(page, "#sum-newest"), "40 %");
	assert.equal(await text(page, "#sum-greatest"), "62 %");
	assert.equal(await text(page, "#sum-samples"), "240");
	assert.equal(await text(page, "#sum-unusual"), "2");
	assert.deepEqual(await page.locator("#unusual-table tr").first().locator("td").allInnerTexts(), ["97.3 %", "+38.50"]);
	await page.click(".as-table summary");
	assert.deepEqual(await page.locator("#history-table tr").first().locator("td").allInnerTexts(), ["4", "20 %", "40 %", "40 %", "59.5 %", "60 %"]);
	assert.equal(await page.locator("#pages a[aria-current=page]").innerText(), "Metrics");
	stub.metrics.points.shift();
	stub.metrics.fill(1, 1795658821000);
	await until("the newest", async () => /60 points/.test(await page.getAttribute("#history", "aria-label")) && (await text(page, "#sum-samples")) === "240");
});

check("metrics: what was chosen is asked for, and kept in the address", async ({ page, stub, base }) => {
	await openMetrics(page, stub, base, "?host=web-%3Cb%3E2%3C%2Fb%3E&metric=network_sent_bytes_per_s&window=1d");
	/* What a producer calls a host is text, whatever it looks like. */
	await until("from the address", async () => await text(page, "#metric-title") === "network_sent_bytes_per_s of web-<b>2</b>");
	await until("in its unit", async () => await text(page, "#sum-newest") === "4 MB/s");
	assert.ok(stub.log.some((e) => e.url.endsWith("&step=1m&points=1440")));
	await page.selectOption("#window", "30d");
	await until("by the hour", () => stub.log.some((e) => e.url.endsWith("&step=1h&points=720")));
	await page.selectOption("#host", "host-1");
	await page.selectOption("#metric", "cpu_percent");
	await until("another one", async () => await text(page, "#metric-title") === "cpu_percent of host-1");
	assert.match(page.url(), /host=host-1&metric=cpu_percent&window=30d$/);
});

check("metrics: without samples, and without an answer, the page says so", async ({ page, stub, base }) => {
	await page.goto(`${base}/ui/metrics`);
	await until("no metrics", async () => /No metrics yet.*SERVICE=metric-producer/s.test(await text(page, "#metrics-empty")));
	stub.faults["metrics-history"] = 502;
	await until("stale", async () => /No answer for \d+ s.*retrying/.test(await text(page, "#metrics-feed .feed-text")));
	delete stub.faults["metrics-history"];
	stub.metrics.fill(5, 1795658820000);
	await retryNow(page, "#metrics-feed");
	await until("the sum", async () => await text(page, "#sum-samples") === "20");
});

check("metrics: what was chosen before goes, and the chart's own feed is spoken for, too", async ({ page, stub, base }) => {
	await openMetrics(page, stub, base);
	await until("a line", async () => (await chartInk(page, "#history")).drawn > 500);
	stub.faults["/metrics-history"] = "hang";
	await page.selectOption("#host", "web-<b>2</b>");
	await until("another one", async () => await text(page, "#metric-title") === "cpu_percent of web-<b>2</b>");
	assert.equal((await chartInk(page, "#history")).drawn, 0);
	assert.equal(await page.locator("#history-table tr, #unusual-table tr").count(), 0);
	assert.equal((await page.locator(".sums dd").allInnerTexts()).join(""), "");
	await until("stale", async () => /No answer for \d+ s.*retrying/.test(await text(page, "#metrics-feed .feed-text")));
	delete stub.faults["/metrics-history"];
	await retryNow(page, "#metrics-feed");
	await until("its sums at once", async () => await text(page, "#sum-newest") !== "", 4000);
	await until("live again", async () => await page.getAttribute("#metrics-feed", "data-state") === "live");
	stub.faults["/metrics-history"] = 422;
	await page.selectOption("#window", "1h");
	await until("what is wrong", async () => /That can't be asked/.test(await text(page, "#metrics-empty")));
	await page.waitForTimeout(3 * POLL_MS);
	assert.equal(await page.isVisible("#metrics-empty"), true);
	delete stub.faults["/metrics-history"];
	await until("all is well", async () => await page.isHidden("#metrics-empty") && await text(page, "#sum-newest") !== "");
});

check("metrics: fits a phone and a wide window, and takes the theme's colours", async ({ page, stub, base }) => {
	await openMetrics(page, stub, base);
	await until("a line", async () => (await chartInk(page, "#history")).drawn > 500);
	await fitsAllWidths(page);
	const before = await chartInk(page, "#history");

	await page.click("#theme");
	await until("other colours", async () => (await chartInk(page, "#history")).sum !== before.sum);
});

/* -- logs ----------------------------------------------------------------- */

async function openLogs(page, stub, base, search = "") {
	stub?.logs.fill(250, 1795658820000);
	await page.goto(`${base}/ui/logs${search}`);
	await until("logs live", async () => await page.getAttribute("#logs-feed", "data-state") === "live");
}

const lines = (page) => page.locator("#entries .message").allInnerTexts();

check("logs: what is searched is found, marked and kept in the address", async ({ page, stub, base }) => {
	await openLogs(page, stub, base);
	await until("the newest", async () => (await lines(page))[0] === "\u{1F4B3} card accepted <b>no 249</b>" || (await lines(page))[0].includes("no 250"));
	assert.equal((await lines(page)).length, 100);
	await page.fill("#q", "refused");
	await until("only those", async () => (await lines(page)).length === 50);
	assert.deepEqual(await page.locator("#entries mark").allInnerTexts().then((list) => [...new Set(list)]), ["refused"]);
	assert.match(page.url(), /q=refused/);
	await page.selectOption("#service", "web-shop");
	await until("of one service", async () => (await lines(page)).length === 25);
	await page.click(".entry summary");
	assert.equal(await page.locator(".entry .stack").first().innerText(), "at refuse()\n\tat main()");
	await page.locator(".entry .link").first().click();
	await until("a request's lines", async () => (await lines(page)).length === 4);
	await page.click("#request");
	await until("all again", async () => (await lines(page)).length === 100);
	await page.goto(`${base}/ui/logs?q=refused&level=error`);
	await until("from the address", async () => await page.inputValue("#q") === "refused" && (await lines(page)).length === 50);
});

check("logs: new lines come to the top, older ones on demand", async ({ page, stub, base }) => {
	await openLogs(page, stub, base, "?level=error");
	await until("50 errors", async () => (await lines(page)).length === 50);
	stub.logs.fill(5, 1795658820000);
	await until("one more", async () => (await lines(page)).length === 51 && /no 255/.test((await lines(page))[0]));
	/* More than one answer holds: the newest are shown, and not the first. */
	stub.logs.fill(745, 1795658820000);
	await until("the newest", async () => /no 1000/.test((await lines(page))[0]));
	assert.equal((await lines(page)).length, 100);
	await page.uncheck("#tail");
	stub.logs.fill(5, 1795658820000);
	await page.waitForTimeout(3 * POLL_MS);
	assert.equal((await lines(page)).length, 100);
	assert.match((await lines(page))[0], /no 1000/);
	await page.selectOption("#level", "");
	await until("a page", async () => (await lines(page)).length === 100);
	await page.click("#older");
	await until("two pages", async () => (await lines(page)).length === 200);
	assert.equal(new Set(await lines(page)).size, 200);
});

check("logs: older lines come once, and not into a list that began anew", async ({ page, stub, base }) => {
	const older = () => stub.log.filter((e) => e.url.includes("after=") && e.status === 200).length;
	let letGo;
	const held = new Promise((resolve) => {
		letGo = resolve;
	});

	await openLogs(page, stub, base);
	await until("a page", async () => (await lines(page)).length === 100);
	await page.locator("#older").evaluate((button) => {
		button.click();
		button.click();
	});
	await until("both answers", () => older() === 2);
	await page.waitForTimeout(3 * POLL_MS);
	assert.equal((await lines(page)).length, 200);
	assert.equal(new Set(await lines(page)).size, 200);
	await page.route("**/logs?*after=*", async (route) => {
		await held;
		await route.continue();
	});
	await page.click("#older");
	stub.logs.fill(150, 1795658820000);
	await until("the newest", async () => /no 400/.test((await lines(page))[0]));
	letGo();
	await until("the old answer", () => older() === 3);
	await page.waitForTimeout(3 * POLL_MS);
	assert.equal((await lines(page)).length, 100);
});

check("logs: without lines, with a bad search and without an answer, the page says so", async ({ page, stub, base }) => {
	await page.goto(`${base}/ui/logs`);
	await until("no lines", async () => /No lines yet.*SERVICE=log-producer/s.test(await text(page, "#logs-empty")));
	stub.logs.fill(5, 1795658820000);
	await page.fill("#q", "\"");
	await until("what is wrong", async () => /isn't closed/.test(await text(page, "#q-error")));
	await page.fill("#q", "nothing like it");
	await until("none found", async () => /No line fits/.test(await text(page, "#logs-empty")));
	assert.equal(await page.isHidden("#q-error"), true);
	stub.faults.logs = 502;
	await until("stale", async () => /No answer for \d+ s.*retrying/.test(await text(page, "#logs-feed .feed-text")));
	delete stub.faults.logs;
	await retryNow(page, "#logs-feed");
	await until("live again", async () => await page.getAttribute("#logs-feed", "data-state") === "live");
});

check("logs: fits a phone and a wide window", async ({ page, stub, base }) => {
	await openLogs(page, stub, base);
	await fitsAllWidths(page);
});

/* -- alerts --------------------------------------------------------------- */

async function openAlerts(page, stub, base, search = "") {
	stub?.alerts.fill(9, 1795658820000);
	await page.goto(`${base}/ui/alerts${search}`);
	await until("alerts live", async () => await page.getAttribute("#alerts-feed", "data-state") === "live");
}

const alertsShown = (page) => page.locator("#alerts .alert-what").allInnerTexts();

check("alerts: what fires and why, by state and rule, kept in the address", async ({ page, stub, base }) => {
	await openAlerts(page, stub, base);
	await until("all", async () => (await alertsShown(page)).length === 9);
	assert.equal(await text(page, "#sum-firing"), "3");
	assert.equal(await text(page, "#sum-pending"), "3");
	assert.equal(await text(page, "#sum-records"), "900");
	assert.deepEqual((await alertsShown(page)).slice(0, 2), ["cpu-high: cpu_percent of web-1", "error-rate: payments"]);
	assert.deepEqual((await page.locator("#alerts .alert-why").allInnerTexts()).slice(0, 2),
	    ["97.3 % (bound 90 %) · alert <b>no 9</b>", "63 % errors (alert above 20 %) · alert <b>no 8</b>"]);
	await page.selectOption("#state", "firing");
	await until("those that fire", async () => (await alertsShown(page)).length === 3);
	assert.equal(await page.locator("#alerts [data-state=firing]").count(), 3);
	await page.selectOption("#rule", "cpu-high");
	await until("of one rule", async () => (await alertsShown(page)).length === 2);
	assert.match(page.url(), /\?state=firing&rule=cpu-high$/);
	await page.goto(`${base}/ui/alerts?rule=error-rate`);
	await until("from the address", async () => (await alertsShown(page)).length === 4 && await page.inputValue("#rule") === "error-rate");
	assert.equal(await page.locator("#pages a[aria-current=page]").innerText(), "Alerts");
});

check("alerts: how unusual it is, since when or for how long, and what is over isn't acknowledged", async ({ page, stub, base }) => {
	const [over, fires] = [1795658700000, 1795658820000];
	const common = { rule: "unusual", kind: "zscore", severity: "warning", summary: "", host: "web-1", metric: "cpu_percent", value: 97.25, bound: 8, score: -9.25, acknowledged_ms: null };

	stub.alerts.alerts.push({ ...common, id: 1, state: "resolved", started_ms: over, fired_ms: over, resolved_ms: over + 90000 },
	    { ...common, id: 2, state: "firing", started_ms: fires, fired_ms: fires + 60000, resolved_ms: null });
	await page.goto(`${base}/ui/alerts`);
	await until("both", async () => (await alertsShown(page)).length === 2);
	assert.deepEqual(await page.locator("#alerts .alert-why").allInnerTexts(), Array(2).fill("97.3 %, \u22129.25 deviations (unusual from 8 on)"));
	const heads = await page.locator("#alerts .entry-head").allInnerTexts();
	const shown = await page.evaluate(async (ms) => (await import("/assets/format.js")).formatTime(ms), fires + 60000);

	assert.ok(heads[0].includes(`since ${shown}`), heads[0]);
	assert.match(heads[1], /, for 90 s/);
	assert.equal(await page.locator("#alerts [data-state=firing] button").count(), 1);
	assert.equal(await page.locator("#alerts [data-state=resolved] button").count(), 0);
});

check("alerts: new ones come, older ones on demand, and the focus stays", async ({ page, stub, base }) => {
	await openAlerts(page, stub, base, "?state=firing");
	await until("three", async () => (await alertsShown(page)).length === 3);
	await page.locator("#alerts button").nth(1).focus();
	await page.evaluate(() => {
		document.activeElement.dataset.mark = "this one";
	});
	stub.alerts.fill(3, 1795658920000);
	await until("one more", async () => (await alertsShown(page)).length === 4);
	assert.equal(await page.evaluate(() => document.activeElement.dataset.mark), "this one");
	stub.alerts.fill(400, 1795658920000);
	await until("a page", async () => (await alertsShown(page)).length === 100);
	await page.click("#older");
	await until("all", async () => (await alertsShown(page)).length === stub.alerts.answer(new URLSearchParams("state=firing&limit=1000"), 1).alerts.length);
	assert.equal(await page.isHidden("#older"), true);
});

check("alerts: one is acknowledged by keyboard, once, and a failure is said", async ({ page, stub, base }) => {
	await openAlerts(page, stub, base, "?state=firing");
	await until("three", async () => (await alertsShown(page)).length === 3);
	stub.faults["POST alerts"] = 503;
	await page.locator("#alerts button").first().focus();
	await page.keyboard.press("Enter");
	await until("what went wrong", async () => /could not be acknowledged/.test(await text(page, "#alerts-error")));
	delete stub.faults["POST alerts"];
	await page.keyboard.press("Enter");
	await until("it is", async () => /acknowledged/.test(await text(page, "#alerts li:first-child .entry-head")));
	assert.equal(await page.locator("#alerts button").count(), 2);
	assert.equal(await page.isHidden("#alerts-error"), true);
	assert.equal(stub.alerts.alerts.filter((a) => a.acknowledged_ms !== null).length, 1);
	/* The focus is at the next one, which twice at once acknowledges once. */
	await page.evaluate(() => {
		const button = document.activeElement;

		button.click();
		button.click();
	});
	await until("the next one", async () => await page.locator("#alerts button").count() === 1);
	assert.equal(stub.log.filter((e) => e.method === "POST").length, 3);
	await page.keyboard.press("Enter");
	await until("the last one", async () => await page.locator("#alerts button").count() === 0);
	assert.equal(await page.evaluate(() => document.activeElement.id), "alerts-title");
});

check("alerts: without any, and without an answer, the page says so", async ({ page, stub, base }) => {
	await page.goto(`${base}/ui/alerts`);
	await until("nothing to judge", async () => /Nothing to judge yet.*SERVICE=log-producer/s.test(await text(page, "#alerts-empty")));
	stub.alerts.records = 7;
	await until("all is well", async () => /No alerts.*alerts --rules FILE/s.test(await text(page, "#alerts-empty")));
	await page.selectOption("#state", "firing");
	await until("none fits", async () => /No alert fits/.test(await text(page, "#alerts-empty")));
	stub.faults.alerts = 502;
	await until("stale", async () => /No answer for \d+ s.*retrying/.test(await text(page, "#alerts-feed .feed-text")));
	delete stub.faults.alerts;
	stub.alerts.fill(3, 1795658820000);
	await retryNow(page, "#alerts-feed");
	await until("one", async () => (await alertsShown(page)).length === 1);
	stub.faults.alerts = 404;
	await page.goto(`${base}/ui/alerts`);
	await until("nobody is there", async () => /The alerts service is not there.*SERVICE=alerts/s.test(await text(page, "#alerts-empty")));
});

check("alerts: fits a phone and a wide window", async ({ page, stub, base }) => {
	await openAlerts(page, stub, base);
	await fitsAllWidths(page);
});

/* -- the run -------------------------------------------------------------- */

function watch(page, name, list) {
	page.on("pageerror", (error) => list.push(`${name}: ${error.message}`));
	page.on("console", (message) => {
		/* A failed request is the point of some checks; the rest is not. */
		if (["error", "warning"].includes(message.type()) && !message.text().startsWith("Failed to load resource"))
			list.push(`${name}: ${message.text()}`);
	});
}

async function runOne(browser, { name, run, plants, stub: options }) {
	const stub = REAL_URL === null ? await startStub({ pollMs: POLL_MS, history: 1200, ...options }) : null;
	const base = REAL_URL?.replace(/\/$/, "") ?? stub.url;
	const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
	const page = await context.newPage();

	page.setDefaultTimeout(PATIENCE_MS);
	watch(page, name, plants ? planted : troubles);
	await page.addInitScript(() => {
		document.addEventListener("securitypolicyviolation", (event) => {
			console.error(`policy violated: ${event.violatedDirective} by ${event.blockedURI}`);
		});
	});
	try {
		await page.goto(`${base}/`);
		await run({ page, stub, base });
		return null;
	} catch (error) {
		return String(error.message).replace(/\s*\n\s*/g, " ").slice(0, 400);
	} finally {
		await context.close();
		stub?.close();
	}
}

async function main() {
	const browser = await chromium.launch({
		executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
		headless: true,
		args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"],
	});
	const chosen = checks.filter((c) => (REAL_URL === null || c.real) && c.name.includes(ONLY));
	let failed = 0;
	let passed = 0;
	const report = (name, trouble) => {
		console.log(trouble === null ? `ok ${name}` : `FAIL ${name}: ${trouble}`);
		if (trouble === null)
			passed++;
		else
			failed++;
	};

	/* A real system's stock must last for any number of runs. */
	if (REAL_URL !== null)
		await fetch(new URL("/stock/Laptop", REAL_URL), {
			method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ quantity: 50 }),
		}).then((response) => report("the real system takes a restock", response.ok ? null : `it answered ${response.status}`),
		    (error) => report("the real system takes a restock", error.message));
	for (const one of chosen)
		report(one.name, await runOne(browser, one));
	report("in all of these: no policy violated, no error in the console",
	    troubles.length === 0 ? null : troubles.slice(0, 5).join("; "));
	await browser.close();
	console.log(`${passed} passed, ${failed} failed`);
	return failed === 0 && passed > 1 ? 0 : 1;
}

process.exit(await main());
