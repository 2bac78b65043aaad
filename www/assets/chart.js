/*
 * chart -- a price line or candles, drawn by uPlot.
 *
 * The chart owns no prices: it is handed arrays and a time range, and says
 * which index the pointer or the keyboard is at.  Colours come from the
 * custom properties --chart-* of its container, so the style sheet decides.
 * uPlot sets element styles through the CSSOM, which a strict
 * Content-Security-Policy allows.
 */
import { readColours } from "./colours.js";
import { formatClock, formatClockShort, formatPrice } from "./format.js";

const COLOURS = ["line", "fill", "up", "down", "grid", "text", "tag-text", "surface"];
const FONT = "12px system-ui, sans-serif";
const AXIS_WIDTH = 70;
const TIME_STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];

/* Room above and below, and never so close that noise looks like drama. */
function priceRange(u, min, max) {
	if (min === null || max === null || !Number.isFinite(min) || !Number.isFinite(max))
		return [0, 1];
	const spread = Math.max(max - min, Math.abs(max) * 0.0008, 0.02);
	const middle = (min + max) / 2;

	return [middle - spread * 0.6, middle + spread * 0.6];
}

/* Labels that would be cut at the edge, or lie under the last price's tag, stay out. */
const timeLabel = (u, t, step) => (u.valToPos(t, "x") < 18 ? "" : step < 60 ? formatClock(t * 1000) : formatClockShort(t * 1000));
const priceLabel = (u, value, last) => (Math.abs(u.valToPos(value, "y") - u.valToPos(last, "y")) < 17 ? "" : formatPrice(value));

function axes(colours, narrow) {
	const grid = { stroke: colours.grid, width: 1 };
	const common = { stroke: colours.text, font: FONT, grid, ticks: { show: false } };

	return [
		{
			...common,
			size: 30,
			incrs: TIME_STEPS_S,
			space: (u, axis, min, max) => (narrow ? (max - min > 120 ? 46 : 58) : 92),
			grid: { show: false },
			values: (u, splits, axis, space, step) => splits.map((t) => timeLabel(u, t, step)),
		},
		{
			...common,
			side: 1,
			size: AXIS_WIDTH,
			space: 44,
			values: (u, splits) => splits.map((v) => priceLabel(u, v, u.data[u.data.length - 1].at(-1))),
		},
	];
}

function fade(u, colour) {
	const gradient = u.ctx.createLinearGradient(0, u.bbox.top, 0, u.bbox.top + u.bbox.height);

	gradient.addColorStop(0, colour);
	gradient.addColorStop(1, "transparent");
	return gradient;
}

/* The last price: a dotted level, and its figure on the axis. */
function drawLast(u, colours, ys, xs) {
	const ratio = uPlot.pxRatio;
	const last = ys.length - 1;
	const { ctx, bbox } = u;

	if (last < 0)
		return;
	const y = Math.round(u.valToPos(ys[last], "y", true));
	const right = bbox.left + bbox.width;
	const height = 20 * ratio;

	if (y < bbox.top || y > bbox.top + bbox.height)
		return;
	ctx.save();
	ctx.strokeStyle = colours.line;
	ctx.lineWidth = ratio;
	ctx.setLineDash([2 * ratio, 4 * ratio]);
	ctx.beginPath();
	ctx.moveTo(bbox.left, y);
	ctx.lineTo(right, y);
	ctx.stroke();
	ctx.setLineDash([]);
	ctx.fillStyle = colours.line;
	ctx.beginPath();
	ctx.roundRect(right + 2 * ratio, y - height / 2, (AXIS_WIDTH - 4) * ratio, height, 4 * ratio);
	ctx.fill();
	ctx.fillStyle = colours["tag-text"];
	ctx.font = `600 ${12 * ratio}px system-ui, sans-serif`;
	ctx.textAlign = "left";
	ctx.textBaseline = "middle";
	ctx.fillText(formatPrice(ys[last]), right + 8 * ratio, y + ratio * 0.5);
	if (xs !== null) {
		ctx.fillStyle = colours.line;
		ctx.strokeStyle = colours.surface;
		ctx.lineWidth = 2 * ratio;
		ctx.beginPath();
		ctx.arc(u.valToPos(xs[last], "x", true), y, 4.5 * ratio, 0, 2 * Math.PI);
		ctx.fill();
		ctx.stroke();
	}
	ctx.restore();
}

/* A rising candle is hollow, a falling one filled: not by colour alone. */
function drawCandles(u, colours, stepS) {
	const ratio = uPlot.pxRatio;
	const [xs, opens, highs, lows, closes] = u.data;
	const { ctx, bbox } = u;
	const step = Math.abs(u.valToPos(stepS, "x", true) - u.valToPos(0, "x", true));
	const width = Math.min(Math.max(Math.round(step * 0.66), ratio), 18 * ratio);
	const at = (value) => Math.round(u.valToPos(value, "y", true));

	ctx.save();
	ctx.beginPath();
	ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
	ctx.clip();
	ctx.lineWidth = Math.max(1, Math.round(1.25 * ratio));
	for (let i = 0; i < xs.length; i++) {
		const x = Math.round(u.valToPos(xs[i], "x", true));
		const rising = closes[i] >= opens[i];
		const top = at(Math.max(opens[i], closes[i]));
		const bottom = Math.max(at(Math.min(opens[i], closes[i])), top + ratio);

		ctx.strokeStyle = ctx.fillStyle = rising ? colours.up : colours.down;
		ctx.beginPath();
		ctx.moveTo(x, at(highs[i]));
		ctx.lineTo(x, top);
		ctx.moveTo(x, bottom);
		ctx.lineTo(x, at(lows[i]));
		ctx.stroke();
		if (!rising || width < 4 * ratio)
			ctx.fillRect(x - width / 2, top, width, bottom - top);
		else
			ctx.strokeRect(x - width / 2, top, width, bottom - top);
	}
	ctx.restore();
}

/*
 * createChart -- an empty chart that fills ${container}'s width.
 *
 * onCursor(index or null) tells where the reader is.  Returns:
 *   line(xs, ys, range)               seconds, prices (null: a gap)
 *   candles(columns, range, step)     [middles, opens, highs, lows, closes]
 *   step(by)                          move the reading point by keyboard
 *   clear()                           draw nothing
 */
export function createChart(container, onCursor) {
	let colours = readColours(container, COLOURS);
	let plot = null;
	let mode = null;
	let range = [0, 1];
	let stepS = 60;
	let data = null;

	const size = () => ({ width: Math.max(container.clientWidth, 200), height: Math.max(container.clientHeight, 160) });

	function lineSeries() {
		return [{}, {
			stroke: colours.line,
			width: 2,
			fill: (u) => fade(u, colours.fill),
			points: { show: false },
			spanGaps: false,
		}];
	}

	function candleSeries() {
		const unseen = { paths: () => null, points: { show: false } };

		return [{}, unseen, { ...unseen }, { ...unseen }, { ...unseen }];
	}

	function draw(u) {
		if (mode === "candles") {
			drawCandles(u, colours, stepS);
			drawLast(u, colours, u.data[4], null);
		} else {
			drawLast(u, colours, u.data[1], u.data[0]);
		}
	}

	function build() {
		const narrow = container.clientWidth < 520;

		plot?.destroy();
		plot = new uPlot({
			...size(),
			padding: [12, 0, 0, 6],
			legend: { show: false },
			cursor: {
				y: false,
				drag: { x: false, y: false, setScale: false },
				points: { show: mode !== "candles", size: 9, width: 2, stroke: colours.surface, fill: colours.line },
			},
			scales: { x: { time: true, range: () => range }, y: { range: priceRange } },
			axes: axes(colours, narrow),
			series: mode === "candles" ? candleSeries() : lineSeries(),
			hooks: { draw: [draw], setCursor: [(u) => onCursor(u.cursor.idx ?? null)] },
		}, data, container);
	}

	function show(nextMode, nextData, nextRange) {
		data = nextData;
		range = nextRange;
		if (plot === null || mode !== nextMode) {
			mode = nextMode;
			build();
			return;
		}
		plot.setData(data);
	}

	function clear() {
		plot?.destroy();
		plot = null;
		mode = null;
		data = null;
	}

	function step(by) {
		if (plot === null || data[0].length === 0)
			return;
		const from = plot.cursor.idx ?? data[0].length;
		const to = Math.min(Math.max(from + by, 0), data[0].length - 1);

		plot.setCursor({ left: plot.valToPos(data[0][to], "x"), top: 10 });
	}

	document.addEventListener("themechange", () => {
		colours = readColours(container, COLOURS);
		if (plot !== null)
			build();
	});
	new ResizeObserver(() => plot?.setSize(size())).observe(container);

	return {
		line: (xs, ys, nextRange) => show("line", [xs, ys], nextRange),
		candles: (columns, nextRange, nextStep) => {
			stepS = nextStep;
			show("candles", columns, nextRange);
		},
		step,
		clear,
	};
}
