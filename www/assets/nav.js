/*
 * nav -- the pages in the header of every page.
 *
 * A new page /ui/<name> adds its line here, and its HTML carries the same
 * header with an empty or filled <ul id="pages">.
 */
import { el } from "./dom.js";

const PAGES = [
	{ href: "/", label: "Prices and orders" },
	{ href: "/ui/analytics", label: "Analytics" },
	{ href: "/ui/metrics", label: "Metrics" },
	{ href: "/ui/logs", label: "Logs" },
	{ href: "/ui/alerts", label: "Alerts" },
	{ href: "/ui/calls", label: "Calls" },
];

export function showPages(list, path) {
	list.replaceChildren(...PAGES.map((page) => {
		const link = el("a", { href: page.href }, page.label);

		if (page.href === path)
			link.setAttribute("aria-current", "page");
		return el("li", {}, link);
	}));
	/* Also when fonts come in, or the window is made narrower. */
	new ResizeObserver(() => showCurrent(list)).observe(list.parentElement);
}

/* Where the header is too narrow for all, the page that one is on is in the middle. */
function showCurrent(list) {
	const link = list.querySelector("a[aria-current=page]");
	const strip = list.parentElement;

	if (link !== null)
		strip.scrollLeft += link.getBoundingClientRect().left - strip.getBoundingClientRect().left -
		    (strip.clientWidth - link.offsetWidth) / 2;
}
