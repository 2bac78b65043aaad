/*
 * prices -- the price card: choosers, chart, readout and table.
 *
 * Two feeds: /prices for the symbols, and the chosen symbol's tail.  Short
 * windows show raw points as a line, the hour shows candles of a minute.
 * The time axis ends at the newest price, so that the clocks of server and
 * reader need not agree; what is ahead of it is of a clock that was wrong.
 */
import { createChart } from "./chart.js";
import { byId, el, say, setText, showEmpty } from "./dom.js";
import { worstState } from "./feedline.js";
import { formatClock, formatClockShort, formatPrice, formatSigned, formatSpan, formatTime, formatWhole, signOf } from "./format.js";
import { createFeed } from "./poll.js";

const TABLE_ROWS = 50;
const POINTS_MAX = 20000;
const ANSWER_POINTS_MAX = 5000;
const QUIET_MS = 10000;
const START_HINT = "Start the price producer with `make start SERVICE=price-producer`; the chart fills by itself.";
const CANDLES = new Map([[3600, { interval: "1m", stepMs: 60000 }]]);

const arrow = (sign) => ["▼", "■", "▲"][sign + 1];
const trend = (sign) => ["down", "flat", "up"][sign + 1];

const wentBack = (before, now) => before !== null && Number.isFinite(now) && now < before;

/* Only finite numbers get as far as the chart. */
const isPoint = (p) => Number.isFinite(p?.ts_ms) && Number.isFinite(p?.price);
const isCandle = (c) => ["start_ms", "open", "high", "low", "close"].every((key) => Number.isFinite(c?.[key]));

export function startPrices(showFeed) {
	let symbol = null;
	let windowS = 300;
	let cursor = null;
	let newestMs = null;
	let points = [];
	let candles = new Map();
	let columns = null;
	let reading = null;
	let newestAt = performance.now();
	let refused = null;
	let tailState = { kind: "connecting", silentMs: 0, reason: "" };
	let listState = tailState;

	const chartNode = byId("chart");
	const frame = chartNode.parentElement;
	const chart = globalThis.uPlot === undefined ? null : createChart(chartNode, (index) => {
		reading = index;
		showReadout();
	});
	const isAhead = (ms) => newestMs !== null && ms > newestMs;
	const candleKind = () => CANDLES.get(windowS) ?? null;

	/* -- what is asked ------------------------------------------------ */

	function tailUrl() {
		if (symbol === null)
			return null;
		const base = `/prices/${encodeURIComponent(symbol)}`;
		const query = new URLSearchParams();

		if (candleKind() !== null)
			query.set("interval", candleKind().interval);
		else
			query.set("window", String(windowS));
		if (cursor !== null)
			query.set("since", String(cursor));
		return `${base}${candleKind() !== null ? "/candles" : ""}?${query}`;
	}

	function forget() {
		cursor = null;
		newestMs = null;
		points = [];
		candles = new Map();
		reading = null;
		refused = null;
	}

	function choose(nextSymbol, nextWindowS) {
		if (nextSymbol === symbol && nextWindowS === windowS)
			return;
		symbol = nextSymbol;
		windowS = nextWindowS;
		forget();
		if (symbol === null)
			return;
		newestAt = performance.now();
		chart?.clear();
		setText(byId("quote-symbol"), symbol);
		setText(byId("quote-price"), "");
		setText(byId("quote-change"), "");
		setText(byId("readout"), "");
		byId("table-body").replaceChildren();
		history.replaceState(null, "", `?${new URLSearchParams({ symbol, window: windowS })}`);
		tail.restart();
	}

	/* -- answers ------------------------------------------------------ */

	function takePoints(list) {
		const fresh = list.filter((p) => isPoint(p) && !isAhead(p.ts_ms));

		if (fresh.length === 0)
			return;
		newestAt = performance.now();
		points.push(...fresh);
		if (points.some((p, i) => i > 0 && p.ts_ms < points[i - 1].ts_ms))
			points.sort((a, b) => a.ts_ms - b.ts_ms);
		const from = points[points.length - 1].ts_ms - windowS * 1000;
		const first = points.findIndex((p) => p.ts_ms >= from);

		points = points.slice(Math.max(first - 1, points.length - POINTS_MAX, 0));
	}

	function takeCandles(list) {
		const fresh = list.filter((c) => isCandle(c) && !isAhead(c.start_ms));

		if (fresh.length === 0)
			return;
		newestAt = performance.now();
		for (const candle of fresh)
			candles.set(candle.start_ms, candle);
		const sorted = [...candles.values()].sort((a, b) => a.start_ms - b.start_ms);
		const from = sorted[sorted.length - 1].start_ms - windowS * 1000;

		candles = new Map(sorted.filter((c) => c.start_ms > from).map((c) => [c.start_ms, c]));
	}

	function takeTail(body) {
		refused = null;
		/*
		 * A cursor that went back is another history, a newest price that
		 * did is one of a clock that was put right: begin again.
		 */
		if (wentBack(cursor, body.cursor) || wentBack(newestMs, body.newest_ms)) {
			forget();
			tail.restart();
			return;
		}
		/*
		 * More came than one answer holds, and what it holds came first:
		 * a chart is to show now, not to catch up answer by answer.
		 */
		if (cursor !== null && body.points?.length >= ANSWER_POINTS_MAX) {
			forget();
			tail.restart();
			return;
		}
		if (Number.isFinite(body.cursor))
			cursor = body.cursor;
		if (Number.isFinite(body.newest_ms))
			newestMs = body.newest_ms;
		if (candleKind() !== null)
			takeCandles(Array.isArray(body.candles) ? body.candles : []);
		else
			takePoints(Array.isArray(body.points) ? body.points : []);
		show();
	}

	function takeSymbols(body) {
		const list = (Array.isArray(body.symbols) ? body.symbols : []).filter((s) => typeof s?.symbol === "string");

		if (list.length === 0) {
			showWhole(false);
			return;
		}
		showWhole(true);
		showSymbols(list);
		if (symbol === null || !list.some((s) => s.symbol === symbol)) {
			const wanted = new URLSearchParams(location.search).get("symbol");
			const found = list.find((s) => s.symbol === wanted) ?? list[0];

			choose(found.symbol, windowS);
			for (const radio of document.getElementsByName("symbol"))
				radio.checked = radio.value === symbol;
		}
	}

	/* -- showing ------------------------------------------------------ */

	function showWhole(any) {
		byId("prices-body").hidden = !any;
		if (any)
			byId("prices-empty").hidden = true;
		else
			showEmpty(byId("prices-empty"), "No prices yet", START_HINT);
	}

	/* Named by its symbol alone: a name that moves would be read out again and again. */
	function symbolChip(name) {
		const radio = el("input", { type: "radio", name: "symbol", value: name, "aria-label": name });

		radio.addEventListener("change", () => choose(name, windowS));
		return el("label", { "data-symbol": name }, radio, el("span", { class: "chip" },
		    el("span", { class: "chip-name" }, name), el("span", { class: "chip-price" }), el("span", { class: "chip-change" })));
	}

	function showSymbols(list) {
		const row = byId("symbols");
		const known = new Map([...row.children].map((node) => [node.dataset.symbol, node]));

		for (const { symbol: name, price, change } of list) {
			const chip = known.get(name) ?? row.appendChild(symbolChip(name));
			const sign = Number.isFinite(change) ? signOf(change) : 0;
			const changeNode = chip.querySelector(".chip-change");

			known.delete(name);
			setText(chip.querySelector(".chip-price"), Number.isFinite(price) ? formatPrice(price) : "");
			setText(changeNode, Number.isFinite(change) ? `${arrow(sign)} ${formatSigned(change)}` : "");
			changeNode.dataset.trend = trend(sign);
		}
		for (const gone of known.values())
			gone.remove();
	}

	/* A line must not bridge a pause of the producer as if it were prices. */
	function lineColumns() {
		const spans = points.slice(1).map((p, i) => p.ts_ms - points[i].ts_ms).sort((a, b) => a - b);
		const usual = spans[spans.length >> 1] ?? 1000;
		const pause = Math.max(usual * 8, 5000);
		const xs = [];
		const ys = [];

		points.forEach((p, i) => {
			if (i > 0 && p.ts_ms - points[i - 1].ts_ms > pause) {
				xs.push((p.ts_ms + points[i - 1].ts_ms) / 2000);
				ys.push(null);
			}
			xs.push(p.ts_ms / 1000);
			ys.push(p.price);
		});
		return [xs, ys];
	}

	function candleColumns(stepMs) {
		const list = [...candles.values()];

		return [
			list.map((c) => (c.start_ms + stepMs / 2) / 1000),
			...["open", "high", "low", "close"].map((key) => list.map((c) => c[key])),
		];
	}

	function show() {
		const kind = candleKind();
		const count = kind !== null ? candles.size : points.length;

		showChartEmpty(count);
		if (count === 0) {
			chart?.clear();
			showReadout();
			return;
		}
		if (kind !== null) {
			columns = candleColumns(kind.stepMs);
			const end = columns[0][columns[0].length - 1] + kind.stepMs / 2000;

			chart?.candles(columns, [end - windowS, end], kind.stepMs / 1000);
		} else {
			columns = lineColumns();
			const end = columns[0][columns[0].length - 1];

			chart?.line(columns[0], columns[1], [end - windowS, end + windowS * 0.015]);
		}
		showQuote();
		showReadout();
		showTable();
	}

	function showChartEmpty(count) {
		const node = byId("chart-empty");

		if (count > 0 && chart !== null)
			node.hidden = true;
		else if (chart === null)
			showEmpty(node, "The chart library is missing", "`make` installs uPlot into `/vendor/`. The table below works without it.");
		else if (refused !== null)
			showEmpty(node, `No prices of ${symbol}`, refused);
		else if (cursor !== null)
			showEmpty(node, `No prices of ${symbol} in this window`, `Choose a longer window. If nothing moves at all: ${START_HINT}`);
		else if (tailState.kind === "stale")
			showEmpty(node, "The prices service does not answer", "`make status` says what runs. This page goes on by itself.");
		else
			node.hidden = true;
	}

	function showQuote() {
		const kind = candleKind();
		const list = kind !== null ? [...candles.values()] : points;
		const first = kind !== null ? list[0].open : list[0].price;
		const last = kind !== null ? list[list.length - 1].close : list[list.length - 1].price;
		const sign = signOf(last - first);
		const percent = first !== 0 ? ` (${formatSigned(((last - first) / first) * 100)} %)` : "";
		const change = byId("quote-change");

		setText(byId("quote-price"), formatPrice(last));
		setText(change, `${arrow(sign)} ${formatSigned(last - first)}${percent}`);
		change.dataset.trend = trend(sign);
		chartNode.setAttribute("aria-label", `Price chart of ${symbol}, ${formatSpan(windowS * 1000)}: now ${formatPrice(last)}, `
		    + `${formatSigned(last - first)} in the window`);
	}

	function readoutParts() {
		if (columns === null || columns[0].length === 0)
			return [];
		const at = reading !== null && reading < columns[0].length && columns[1][reading] !== null ? reading : columns[0].length - 1;
		const time = columns[0][at] * 1000;

		if (candleKind() !== null)
			return [["Minute", formatClockShort(time)], ["Open", formatPrice(columns[1][at])], ["High", formatPrice(columns[2][at])],
				["Low", formatPrice(columns[3][at])], ["Close", formatPrice(columns[4][at])]];
		return [["Time", formatClock(time)], ["Price", formatPrice(columns[1][at])]];
	}

	function showReadout() {
		const count = candleKind() !== null ? candles.size : points.length;
		const parts = count === 0 ? [] : readoutParts();

		byId("readout").replaceChildren(...parts.map(([name, value]) => el("span", {}, `${name} `, el("b", {}, value))));
	}

	/* Newest first; built only while someone looks. */
	function showTable() {
		const kind = candleKind();
		const heads = kind !== null ? ["Minute", "Open", "High", "Low", "Close", "Prices"] : ["Time", "Price", "Change"];

		if (byId("table-region").hidden)
			return;
		const rows = kind !== null
		    ? [...candles.values()].slice(-TABLE_ROWS).reverse().map((c) => [formatClockShort(c.start_ms),
			    ...[c.open, c.high, c.low, c.close].map(formatPrice), Number.isFinite(c.count) ? formatWhole(c.count) : ""])
		    : points.slice(-TABLE_ROWS).reverse().map((p, i, list) => [formatTime(p.ts_ms), formatPrice(p.price),
			    i + 1 < list.length ? formatSigned(p.price - list[i + 1].price) : ""]);

		setText(byId("table-caption"), `${symbol}: the last ${rows.length} ${kind !== null ? "candles" : "prices"}, newest first`);
		byId("table-head").replaceChildren(...heads.map((head) => el("th", { scope: "col" }, head)));
		byId("table-body").replaceChildren(...rows.map((cells) => el("tr", {},
		    ...cells.map((cell, i) => (i === 0 ? el("th", { scope: "row" }, cell) : el("td", {}, cell))))));
	}

	function showState() {
		const worst = worstState([tailState, listState]);
		const quietMs = performance.now() - newestAt;

		frame.dataset.stale = String(worst.kind === "stale");
		if (worst.kind === "stale")
			showFeed("prices", worst);
		else if (symbol === null)
			showFeed("prices", listState);
		else if (tailState.kind === "live" && quietMs > QUIET_MS)
			showFeed("prices", { kind: "quiet", silentMs: quietMs, reason: "" });
		else
			showFeed("prices", tailState);
		if (symbol === null && listState.kind === "stale")
			showEmpty(byId("prices-empty"), "The prices service does not answer", "`make status` says what runs, `make run` starts it. This page goes on by itself.");
	}

	/* -- wiring ------------------------------------------------------- */

	const tail = createFeed({
		url: tailUrl,
		onAnswer: takeTail,
		onRefused: (error) => {
			/* A cursor that the server does not take is of another history. */
			if (cursor !== null) {
				forget();
				tail.restart();
				return;
			}
			refused = error.message;
			show();
		},
		onState: (state) => {
			tailState = state;
			if (state.kind === "stale")
				showChartEmpty(candleKind() !== null ? candles.size : points.length);
			showState();
		},
	});
	const list = createFeed({
		url: () => "/prices",
		onAnswer: takeSymbols,
		onState: (state) => {
			listState = state;
			showState();
		},
	});

	const wantedWindow = new URLSearchParams(location.search).get("window");

	for (const radio of document.getElementsByName("window")) {
		if (radio.value === wantedWindow)
			radio.checked = true;
		if (radio.checked)
			windowS = Number(radio.value);
		radio.addEventListener("change", () => choose(symbol, Number(radio.value)));
	}
	byId("table-toggle").addEventListener("click", (event) => {
		const region = byId("table-region");

		region.hidden = !region.hidden;
		event.currentTarget.setAttribute("aria-expanded", String(!region.hidden));
		setText(event.currentTarget, region.hidden ? "Show as table" : "Hide the table");
		if (symbol !== null && (points.length > 0 || candles.size > 0))
			showTable();
	});
	chartNode.addEventListener("keydown", (event) => {
		const by = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];

		if (by === undefined)
			return;
		event.preventDefault();
		chart?.step(by);
		say(readoutParts().map((part) => part.join(" ")).join(", "));
	});
	list.start();
	tail.start();
	return { retry: () => {
		list.now();
		tail.now();
	} };
}
