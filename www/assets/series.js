/*
 * series -- a value over time by uPlot: its mean as a line in the band from
 * the least to the greatest, a percentile, and marks at what is unusual.
 */
import { readColours } from "./colours.js";
import { formatClock, formatClockShort, formatDay } from "./format.js";

const COLOURS = ["bar", "band", "curve", "grid", "text"];
const FONT = "12px system-ui, sans-serif";
const DAY_S = 86400;
const TIME_STEPS_S = [1, 5, 10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, DAY_S, 2 * DAY_S, 5 * DAY_S, 10 * DAY_S];

/* Room above and below, and never so close that noise looks like drama. */
function valueRange(u, least, greatest) {
	if (!Number.isFinite(least) || !Number.isFinite(greatest))
		return [0, 1];
	const spread = Math.max(greatest - least, Math.abs(greatest) * 0.1, 0.1) * 1.2;
	const from = (least + greatest - spread) / 2;

	return least >= 0 && from < 0 ? [0, spread] : [from, from + spread];
}

/* Above or below the line: not by colour alone. */
function drawMarks(u, colour, marks) {
	const size = 6 * uPlot.pxRatio;
	const { ctx } = u;

	ctx.save();
	ctx.fillStyle = colour;
	marks.forEach((sign, i) => {
		if (sign === 0 || u.data[3][i] === null)
			return;
		const x = u.valToPos(u.data[0][i], "x", true);
		const y = u.valToPos(u.data[3][i], "y", true) - 2 * sign * size;

		ctx.beginPath();
		ctx.moveTo(x, y - sign * size);
		ctx.lineTo(x - size, y + sign * size);
		ctx.lineTo(x + size, y + sign * size);
		ctx.fill();
	});
	ctx.restore();
}

/*
 * createSeries -- an empty chart that fills ${container}.
 *
 *   format     a value as the axis shows it
 *   onCursor   told the index that the pointer is at, or null
 *
 * Returns show({times, least, greatest, means, highs, marks}): seconds, and
 * values or null; marks are 1 above, -1 below, 0 none; and clear(): nothing is
 * drawn until the next show().
 */
export function createSeries(container, { format, onCursor }) {
	let colours = readColours(container, COLOURS);
	let plot = null;
	let data = null;
	let marks = [];

	const size = () => ({ width: Math.max(container.clientWidth, 200), height: Math.max(container.clientHeight, 140) });
	const timeLabel = (t, step) => (step < 60 ? formatClock(t * 1000) : step < DAY_S ? formatClockShort(t * 1000) : formatDay(t * 1000));

	function build() {
		const common = { stroke: colours.text, font: FONT, ticks: { show: false } };
		const line = { points: { show: false }, spanGaps: false };

		plot?.destroy();
		plot = new uPlot({
			...size(),
			padding: [16, 22, 0, 0],
			legend: { show: false },
			cursor: { y: false, drag: { x: false, y: false, setScale: false }, points: { show: false } },
			scales: { x: { time: true }, y: { range: valueRange } },
			axes: [
				{ ...common, size: 28, space: 72, grid: { show: false }, incrs: TIME_STEPS_S,
					values: (u, splits, axis, space, step) => splits.map((t) => timeLabel(t, step)) },
				{ ...common, size: 76, space: 36, grid: { stroke: colours.grid, width: 1 },
					values: (u, splits) => splits.map((y) => format(y)) },
			],
			series: [{}, { ...line, width: 0 }, { ...line, width: 0 }, { ...line, stroke: colours.bar, width: 2 },
				{ ...line, stroke: colours.text, width: 1, dash: [4, 4] }],
			bands: [{ series: [2, 1], fill: colours.band }],
			hooks: { draw: [(u) => drawMarks(u, colours.curve, marks)], setCursor: [(u) => onCursor(u.cursor.idx ?? null)] },
		}, data, container);
	}

	document.addEventListener("themechange", () => {
		colours = readColours(container, COLOURS);
		if (plot !== null)
			build();
	});
	new ResizeObserver(() => plot?.setSize(size())).observe(container);

	return {
		show({ times, least, greatest, means, highs, marks: nextMarks }) {
			data = [times, least, greatest, means, highs];
			marks = nextMarks;
			if (plot === null)
				build();
			else
				plot.setData(data);
		},
		clear() {
			plot?.destroy();
			plot = null;
		},
	};
}
