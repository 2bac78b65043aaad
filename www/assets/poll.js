/*
 * poll -- one JSON resource, asked again and again, and requests once.
 *
 * A feed has at most one request in flight.  It asks at the interval that
 * the server names (poll_ms), counted from the start of the request before,
 * so that answering time does not add up; it sends the ETag of the answer
 * to the same URL and takes 304 as "nothing new".  While the document is
 * hidden it does not ask at all; shown again, it asks at once.  A request
 * without an answer is given up after a while; failures are repeated with
 * back-off, for ever.
 *
 * An answer is anything below 500 but 408 and 429: a 404 is an answer.
 */

const FIRST_POLL_MS = 1000;
const POLL_MIN_MS = 100;
const POLL_MAX_MS = 60000;
const BACKOFF_MAX_MS = 15000;
const TIMEOUT_MS = 8000;
const STALE_MIN_MS = 3000;
const JSON_TYPE = /^application\/(problem\+)?json\b/i;

/* What the server said is wrong: an RFC 9457 document, or what we have. */
export class Problem extends Error {
	constructor(status, body, retryAfterMs) {
		super(body?.detail || body?.title || `the server answered ${status}`);
		this.status = status;
		this.errors = Array.isArray(body?.errors) ? body.errors : [];
		this.retryAfterMs = retryAfterMs;
	}
}

/* Seconds or a date, as a bounded number of ms; null without the header. */
function retryAfter(response) {
	const text = response.headers.get("Retry-After");
	let ms;

	if (text === null)
		return null;
	ms = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
	return Number.isFinite(ms) ? Math.min(Math.max(ms, 500), 30000) : null;
}

/*
 * One request with a deadline that covers the body too.  Returns {status,
 * etag, body}, body null with 304; throws Problem for other than 2xx and 304,
 * TypeError or AbortError without an answer.
 */
export async function request(url, { method = "GET", headers = {}, body, timeoutMs = TIMEOUT_MS, signal } = {}) {
	const controller = new AbortController();
	const timer = setTimeout(() => controller.abort(), timeoutMs);
	const giveUp = () => controller.abort();

	signal?.addEventListener("abort", giveUp);
	try {
		const response = await fetch(url, {
			method, body, signal: controller.signal, cache: "no-store", redirect: "error",
			headers: { Accept: "application/json", ...headers },
		});
		const json = JSON_TYPE.test(response.headers.get("Content-Type") ?? "");
		let value = null;

		if (response.status === 304)
			return { status: 304, etag: null, body: null };
		if (json)
			value = await response.json().catch((error) => {
				if (controller.signal.aborted)
					throw error;
				return null;
			});
		if (!response.ok)
			throw new Problem(response.status, value, retryAfter(response));
		if (value === null || typeof value !== "object")
			throw new Problem(502, { detail: "the answer was not JSON" }, null);
		return { status: response.status, etag: response.headers.get("ETag"), body: value };
	} finally {
		clearTimeout(timer);
		signal?.removeEventListener("abort", giveUp);
	}
}

/* Whether trying the same request again can help. */
export function isTransient(error) {
	return !(error instanceof Problem) || error.status >= 500 || error.status === 408 || error.status === 429;
}

/*
 * createFeed -- a feed, stopped.
 *
 *   url()             the URL to ask now, or null to skip this turn
 *   onAnswer(body)    a 200; may change what url() returns
 *   onRefused(error)  an answer other than 2xx and 304
 *   onState(state)    after each turn, and every second while shown:
 *                     {kind: connecting|live|stale, silentMs, reason}
 *
 * start() asks at once; restart() forgets the request in flight and asks at
 * once; now() asks at once unless a request that may yet be answered is in
 * flight.
 */
export function createFeed({ url, onAnswer, onRefused = () => {}, onState = () => {} }) {
	let started = false;
	let answered = false;
	let pollMs = FIRST_POLL_MS;
	let failures = 0;
	let reason = "";
	let timer = 0;
	let flight = null;
	let etag = null;
	let etagUrl = null;
	let silentFrom = performance.now();

	const staleMs = () => Math.max(STALE_MIN_MS, 2 * pollMs + 1000);

	function state() {
		const silentMs = performance.now() - silentFrom;

		if (silentMs > staleMs())
			return { kind: "stale", silentMs, reason };
		return { kind: answered ? "live" : "connecting", silentMs, reason: "" };
	}

	function schedule(delayMs) {
		clearTimeout(timer);
		if (started && !document.hidden)
			timer = setTimeout(turn, Math.max(0, delayMs));
	}

	function heard() {
		answered = true;
		failures = 0;
		reason = "";
		silentFrom = performance.now();
	}

	function take(answer, asked) {
		heard();
		if (answer.body === null)
			return;
		etag = answer.etag;
		etagUrl = asked;
		if (Number.isFinite(answer.body.poll_ms))
			pollMs = Math.min(Math.max(answer.body.poll_ms, POLL_MIN_MS), POLL_MAX_MS);
		onAnswer(answer.body);
	}

	function failed(error) {
		failures++;
		if (!isTransient(error)) {
			silentFrom = performance.now();
			answered = true;
			etag = null; /* what was shown is gone */
			onRefused(error);
		} else {
			reason = error instanceof Problem ? String(error.status) : "";
		}
		return error.retryAfterMs ?? Math.min(pollMs * 2 ** Math.min(failures - 1, 10), BACKOFF_MAX_MS);
	}

	async function turn() {
		const asked = url();
		const began = performance.now();
		const mine = new AbortController();
		let answer = null;
		let delayMs;

		if (flight !== null)
			return;
		if (asked === null) {
			silentFrom = began;
			schedule(pollMs);
			return;
		}
		flight = mine;
		try {
			const headers = etag !== null && etagUrl === asked ? { "If-None-Match": etag } : {};

			answer = await request(asked, { headers, signal: mine.signal });
		} catch (error) {
			if (flight !== mine)
				return;
			delayMs = failed(error);
		}
		if (flight !== mine)
			return;
		if (answer !== null) {
			/* A mistake in showing an answer is not the server's silence. */
			try {
				take(answer, asked);
			} catch (error) {
				reportError(error);
			}
			if (flight !== mine)
				return;
			delayMs = began + pollMs - performance.now();
		}
		flight = null;
		onState(state());
		schedule(delayMs);
	}

	function abandon() {
		clearTimeout(timer);
		flight?.abort();
		flight = null;
	}

	/* Time that we did not ask in is not silence of the server. */
	function shown() {
		if (!started)
			return;
		abandon();
		if (document.hidden)
			return;
		silentFrom = performance.now();
		failures = 0;
		schedule(0);
	}

	document.addEventListener("visibilitychange", shown);
	addEventListener("online", () => schedule(0));
	setInterval(() => {
		if (started && !document.hidden)
			onState(state());
	}, 1000);

	return {
		start() {
			started = true;
			silentFrom = performance.now();
			schedule(0);
		},
		restart() {
			abandon();
			etag = null;
			schedule(0);
		},
		now() {
			if (state().kind === "stale")
				abandon();
			if (flight === null)
				schedule(0);
		},
		state,
	};
}
