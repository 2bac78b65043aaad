/*
 * format -- numbers and times as people read them.
 *
 * The page's language is English, so numbers are; times are local, 24 h.
 */

const price = new Intl.NumberFormat("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const clockShort = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

export const formatPrice = (value) => price.format(value);
export const formatWhole = (value) => whole.format(value);
export const formatClock = (ms) => clock.format(ms);
export const formatDay = (ms) => day.format(ms);
export const formatClockShort = (ms) => clockShort.format(ms);

/* A time of today as a clock, an older one with its day in front. */
export function formatTime(ms) {
	const now = new Date();

	if (new Date(ms).toDateString() === now.toDateString())
		return clock.format(ms);
	return `${day.format(ms)}, ${clock.format(ms)}`;
}

/* A difference with its sign always said; a true minus, not a hyphen. */
export function formatSigned(value) {
	const text = price.format(Math.abs(value));

	if (Number(text.replaceAll(",", "")) === 0)
		return `±${text}`;
	return (value < 0 ? "\u2212" : "+") + text;
}

/* -1, 0 or 1 as formatSigned would show it. */
export function signOf(value) {
	return Math.abs(value) < 0.005 ? 0 : Math.sign(value);
}

/* "450 ms", "12 s", "3 min", "2 h" */
export function formatSpan(ms) {
	if (ms < 1000)
		return `${Math.max(0, Math.round(ms))} ms`;
	if (ms < 120000)
		return `${Math.floor(ms / 1000)} s`;
	if (ms < 7200000)
		return `${Math.floor(ms / 60000)} min`;
	return `${Math.floor(ms / 3600000)} h`;
}

/* A metric's value with the unit that its name ends in. */
export function formatMetric(name, value) {
	const size = Math.abs(value);
	const digits = new Intl.NumberFormat("en-US", { maximumFractionDigits: size < 10 ? 2 : size < 1000 ? 1 : 0 });

	if (name.endsWith("_percent"))
		return `${digits.format(value)} %`;
	if (!name.includes("_bytes"))
		return digits.format(value);
	const power = size < 1000 ? 0 : Math.min(Math.floor(Math.log10(size) / 3), 4);
	const unit = ["B", "kB", "MB", "GB", "TB"][power] + (name.endsWith("_per_s") ? "/s" : "");
	const scaled = value / 1000 ** power;

	return `${scaled.toPrecision(3).includes("e") ? whole.format(scaled) : Number(scaled.toPrecision(3))} ${unit}`;
}
