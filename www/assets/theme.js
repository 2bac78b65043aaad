/*
 * theme -- light or dark, before the first paint.
 *
 * Runs as a classic script in the head, so that a remembered choice is in
 * place when the body is drawn.  Without a choice the system's preference
 * holds, live.  Choosing what the system prefers anyway forgets the choice.
 * A change is announced as the event "themechange" on document.
 */
"use strict";

(() => {
	const KEY = "millrace.theme";
	const root = document.documentElement;
	const system = matchMedia("(prefers-color-scheme: dark)");

	/* Storage may be forbidden: then a choice lasts as long as the page. */
	const recall = () => {
		try {
			return localStorage.getItem(KEY);
		} catch {
			return null;
		}
	};
	const remember = (theme) => {
		try {
			if (theme === null)
				localStorage.removeItem(KEY);
			else
				localStorage.setItem(KEY, theme);
		} catch {
			/* nothing to keep it in */
		}
	};

	const preferred = () => (system.matches ? "dark" : "light");
	const current = () => root.dataset.theme || preferred();

	const use = (theme) => {
		if (theme === "light" || theme === "dark")
			root.dataset.theme = theme;
		else
			delete root.dataset.theme;
	};

	const announce = () => {
		const text = document.getElementById("theme-text");

		if (text !== null)
			text.textContent = current() === "dark" ? "Use light colours" : "Use dark colours";
		document.dispatchEvent(new Event("themechange"));
	};

	use(recall());
	system.addEventListener("change", announce);
	addEventListener("storage", (event) => {
		if (event.key !== KEY)
			return;
		use(event.newValue);
		announce();
	});
	document.addEventListener("DOMContentLoaded", () => {
		announce();
		document.getElementById("theme")?.addEventListener("click", () => {
			const wanted = current() === "dark" ? "light" : "dark";
			const choice = wanted === preferred() ? null : wanted;

			remember(choice);
			use(choice);
			announce();
		});
	});
})();
