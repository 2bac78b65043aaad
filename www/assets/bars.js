/*
 * bars -- columns of equal width, and perhaps a curve over them, by uPlot.
 *
 * Colours come from the custom properties --chart-* of the container, so the
 * style sheet decides, and a change of theme draws anew.
 */
import { readColours } from "./colours.js";
import { formatClockShort, formatWhole } from "./format.js";

const COLOURS = ["bar", "curve", "grid", "text"];
const FONT = "12px system-ui, sans-serif";

/* Columns stand between their start and the next one's, less a hair. */
function drawBars(u, colour, width) {
	const { ctx } = u;
	const floor = u.valToPos(0, "y", true);

	ctx.save();
	ctx.fillStyle = colour;
	u.data[0].forEach((middle, i) => {
		const left = u.valToPos(middle - width / 2, "x", true);
		const right = u.valToPos(middle + width / 2, "x", true);
		const top = u.valToPos(u.data[1][i], "y", true);
		const gap = Math.min(Math.round((right - left) * 0.12), 3 * uPlot.pxRatio);

		ctx.fillRect(left + gap, top, Math.max(right - left - 2 * gap, 1), floor - top);
	});
	ctx.restore();
}

/*
 * createBars -- an empty chart that fills ${container}.
 *
 *   time       whether x are times (seconds) or seconds
 *   onCursor   told the index that the pointer is at, or null
 *
 * Returns show(middles, counts, curve or null, width).
 */
export function createBars(container, { time, onCursor }) {
	let colours = readColours(container, COLOURS);
	let plot = null;
	let data = null;
	let width = 1;

	const size = () => ({ width: Math.max(container.clientWidth, 200), height: Math.max(container.clientHeight, 140) });
	const unseen = { paths: () => null, points: { show: false } };

	function axes() {
		const common = { stroke: colours.text, font: FONT, ticks: { show: false } };

		return [
			{
				...common,
				size: 28,
				space: 64,
				grid: { show: false },
				incrs: time ? [60, 120, 300, 600, 900, 1800, 3600, 7200, 14400] : undefined,
				values: (u, splits) => splits.map((x) => (time ? formatClockShort(x * 1000) : `${x} s`)),
			},
			{
				...common,
				size: 56,
				space: 36,
				grid: { stroke: colours.grid, width: 1 },
				incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6, 1e7],
				values: (u, splits) => splits.map((y) => formatWhole(y)),
			},
		];
	}

	function build() {
		plot?.destroy();
		plot = new uPlot({
			...size(),
			padding: [12, 20, 0, 0], // half of the last label is beyond the columns
			legend: { show: false },
			cursor: { y: false, drag: { x: false, y: false, setScale: false }, points: { show: false } },
			scales: {
				x: { time, range: (u, min, max) => [(min ?? 0) - width / 2, (max ?? 1) + width / 2] },
				y: { range: (u, min, max) => [0, Math.max(max ?? 0, 1) * 1.08] },
			},
			axes: axes(),
			series: [{}, unseen, { stroke: colours.curve, width: 2, points: { show: false } }],
			hooks: {
				drawAxes: [(u) => drawBars(u, colours.bar, width)],
				setCursor: [(u) => onCursor(u.cursor.idx ?? null)],
			},
		}, data, container);
	}

	document.addEventListener("themechange", () => {
		colours = readColours(container, COLOURS);
		if (plot !== null)
			build();
	});
	new ResizeObserver(() => plot?.setSize(size())).observe(container);

	return {
		show(middles, counts, curve, nextWidth) {
			data = [middles, counts, curve ?? middles.map(() => null)];
			if (plot !== null && width === nextWidth) {
				plot.setData(data);
				return;
			}
			width = nextWidth;
			build();
		},
	};
}
