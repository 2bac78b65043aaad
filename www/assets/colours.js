/*
 * colours -- what a canvas draws with: the custom properties --chart-* of its
 * container, so that the style sheet decides.
 */
export function readColours(node, names) {
	const style = getComputedStyle(node);

	return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--chart-${name}`).trim()]));
}
