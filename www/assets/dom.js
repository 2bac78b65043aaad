/*
 * dom -- elements and text.
 *
 * Everything that came from outside enters the page as text nodes only.
 * el() refuses attributes that could carry code or inline style, so that a
 * slip shows in development and not as a hole.
 */

const ATTRIBUTES = new Set(["class", "href", "type", "name", "value", "scope", "role", "title", "datetime", "id", "for"]);

/* A new element; children are elements or text (strings, numbers). */
export function el(tag, attributes = {}, ...children) {
	const node = document.createElement(tag);

	for (const [name, value] of Object.entries(attributes)) {
		if (!ATTRIBUTES.has(name) && !name.startsWith("aria-") && !name.startsWith("data-"))
			throw new Error(`el: attribute ${name} is not allowed`);
		node.setAttribute(name, value);
	}
	node.append(...children.map((child) => (typeof child === "number" ? String(child) : child)));
	return node;
}

export function byId(id) {
	const node = document.getElementById(id);

	if (node === null)
		throw new Error(`no element #${id}`);
	return node;
}

/* Set text only where it differs: an unchanged node is not announced again. */
export function setText(node, text) {
	if (node.textContent !== text)
		node.textContent = text;
}

/* Show ${text} in ${node}, or hide the node when there is none. */
export function setMessage(node, text) {
	setText(node, text ?? "");
	node.hidden = !text;
}

/* An empty state: a title, and a paragraph in which `...` is code. */
export function showEmpty(node, title, hint) {
	const parts = hint.split("`").map((part, i) => (i % 2 === 1 ? el("code", {}, part) : part));
	const key = `${title}\n${hint}`;

	node.hidden = false;
	if (node.dataset.key === key)
		return;
	node.dataset.key = key;
	node.replaceChildren(el("p", { class: "empty-title" }, title), el("p", {}, ...parts));
}

/* Say something to screen readers, politely and once. */
export function say(text) {
	const node = byId("say");

	/* The same sentence twice is news only if the node was empty between. */
	node.textContent = "";
	setTimeout(() => {
		node.textContent = text;
	}, 50);
}
