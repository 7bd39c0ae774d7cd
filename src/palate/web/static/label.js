// The labelling page: keys, drafts, active time, sending. Without this file the page's forms work as plain forms.
"use strict";
(() => {
  const { palate } = window;
  const root = document.getElementById("label");
  if (!root) return;
  const byId = (id) => document.getElementById(id);
  const IDLE = 60_000; // milliseconds: a longer pause counts as this much active time
  const TIMEOUT = 20_000;
  const KEPT = 30 * 24 * 3600 * 1000; // drafts older than this are deleted
  const HIDDEN_FIELDS = ["csrf_token", "lease", "request_key", "seconds", "seconds_total"];

  let request = null; // the vote or undo that is not acknowledged yet: {form, body, choice}
  let retryTimer = 0;
  let attempts = 0;

  // ---- active time: the page is visible and has the focus --------------------------------------------------------
  const clock = { active: 0, total: 0, last: 0, running: false };
  const watching = () => document.visibilityState === "visible" && document.hasFocus();
  function tick() {
    const now = performance.now();
    const gap = now - clock.last;
    clock.total += gap;
    if (clock.running) clock.active += Math.min(gap, IDLE);
    clock.last = now;
    clock.running = watching();
  }
  function startClock(active = 0, total = 0) {
    Object.assign(clock, { active, total, last: performance.now(), running: watching() });
  }
  for (const kind of ["keydown", "pointerdown", "pointermove", "wheel", "scroll", "touchstart", "focus", "blur"])
    window.addEventListener(kind, tick, { passive: true, capture: true });
  document.addEventListener("visibilitychange", tick);

  // ---- drafts: what was typed stays until the server has acknowledged it ------------------------------------------
  const ballot = () => byId("ballot");
  const draftName = (form) => "palate-draft:" + form.dataset.draft;
  function stored(area, name, value) {
    try { // storage may be full or switched off: then the page works without drafts
      if (value === undefined) return JSON.parse(area.getItem(name));
      if (value === null) area.removeItem(name);
      else area.setItem(name, JSON.stringify(value));
    } catch { /* nothing to do */ }
    return null;
  }
  function readDraft(form) {
    const fields = [...new FormData(form)].filter(([name, value]) => !HIDDEN_FIELDS.includes(name) && value !== "");
    return { fields, key: form.elements.request_key.value, choice: request?.choice ?? "",
             active: clock.active, total: clock.total, at: Date.now() };
  }
  function saveDraft() {
    const form = ballot();
    if (!form) return;
    tick();
    const draft = readDraft(form);
    stored(localStorage, draftName(form), draft.fields.length || draft.choice ? draft : null);
  }
  function fill(form, fields) {
    for (const [name, value] of fields)
      for (const field of form.querySelectorAll(`[name="${CSS.escape(name)}"]`))
        if (field.type === "checkbox" || field.type === "radio") field.checked ||= field.value === value;
        else field.value = value;
    if (fields.length) form.querySelector("details.reason").open = true;
  }
  function restoreDraft(form) {
    const draft = stored(localStorage, draftName(form));
    const undone = stored(sessionStorage, draftName(form)); // what was sent with the vote that was just undone
    if (!draft && undone) fill(form, undone.fields);
    startClock(draft?.active, draft?.total);
    if (!draft) return;
    fill(form, draft.fields);
    if (!draft.choice) return say(`${byId("label-status").textContent} Your draft is here again.`.trim());
    form.elements.request_key.value = draft.key; // the server may have the vote already: the same key gives one vote
    const button = form.querySelector(`button[value="${CSS.escape(draft.choice)}"]`);
    const problem = `Your vote “${words(button)}” was not confirmed before the page was closed.`;
    trouble(problem, "Send it again", () => send(form, button));
  }
  function forgetOldDrafts() {
    for (const name of Object.keys(localStorage))
      if (name.startsWith("palate-draft:") && !(stored(localStorage, name)?.at > Date.now() - KEPT))
        stored(localStorage, name, null);
  }

  // ---- messages ----------------------------------------------------------------------------------------------------
  const words = (button) => button?.firstChild.textContent.trim() ?? "";
  function say(text) { byId("label-status").textContent = text; }
  function trouble(text, label, action) {
    const box = byId("label-trouble");
    box.hidden = !text;
    box.replaceChildren();
    if (!text) return;
    const message = document.createElement("p");
    message.textContent = text;
    box.append(message);
    if (!label) return;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = label;
    button.addEventListener("click", action);
    box.append(button);
    button.focus();
  }

  // ---- sending -----------------------------------------------------------------------------------------------------
  function send(form, button) {
    if (request) return; // a double click, or a key while a vote is on its way
    if (button?.disabled) return;
    if (form === ballot()) {
      const half = halfScored(form);
      const scores = () => openReason("input[type=radio]");
      if (half) return trouble(`Score both answers for “${half}”, or neither.`, "Go to the scores", scores);
      tick();
      form.elements.seconds.value = (clock.active / 1000).toFixed(2);
      form.elements.seconds_total.value = (clock.total / 1000).toFixed(2);
    }
    const body = new URLSearchParams(new FormData(form));
    if (button?.name) body.set(button.name, button.value);
    request = { form, body, choice: button?.value ?? "", words: words(button) };
    attempts = 0;
    trouble("");
    saveDraft();
    post();
  }
  function halfScored(form) {
    const scored = (set) => [...set.querySelectorAll("input:checked")].filter((field) => field.value).length;
    const half = [...form.querySelectorAll("fieldset.dimension")].find((set) => scored(set) === 1);
    return half?.querySelector("legend").textContent ?? "";
  }
  async function post() {
    clearTimeout(retryTimer);
    attempts += 1;
    request.form.inert = true; // what is on its way must not change
    root.setAttribute("aria-busy", "true");
    let answer, text;
    try {
      answer = await palate.send(request.form.action, request.body, TIMEOUT);
      text = await answer.text();
    } catch {
      return later("There is no connection to the server.");
    } finally {
      root.removeAttribute("aria-busy");
    }
    if (answer.ok || answer.status === 409) return acknowledged(text); // 409: nothing was stored, here is another item
    const problem = errorOf(answer, text);
    if (answer.status === 401) return trouble(`You are logged out. ${notSaved()}.`, "Log in and send", retry);
    if (answer.status === 429 || answer.status >= 500) return later(problem, Number(answer.headers.get("Retry-After")));
    request.form.inert = false; // refused: the person changes something and sends again
    request = null;
    saveDraft();
    trouble(problem, "Close", () => { trouble(""); focusHeading(); });
  }
  function errorOf(answer, text) {
    try {
      return JSON.parse(text).error;
    } catch {
      return `The server answers with error ${answer.status}.`;
    }
  }
  function notSaved() {
    return request.choice ? `Not saved yet; your vote “${request.words}” and what you wrote are kept` : "Not undone yet";
  }
  function later(problem, seconds = 0) {
    const wait = Math.max(seconds || 0, Math.min(2 ** attempts, 30));
    trouble(`${problem} ${notSaved()}. Trying again in ${wait} s.`, "Try again now", retry);
    retryTimer = setTimeout(retry, wait * 1000);
  }
  function retry() {
    if (!request) return;
    trouble("");
    say("Sending again…");
    post();
  }
  window.addEventListener("online", () => { if (request && attempts) retry(); });
  function acknowledged(text) {
    const page = new DOMParser().parseFromString(text, "text/html");
    const form = ballot();
    if (form && request.form === form) {
      stored(sessionStorage, draftName(form), readDraft(form));
      stored(localStorage, draftName(form), null);
    } else saveDraft(); // an undo: the draft of the item that was open stays
    request = null;
    trouble("");
    document.title = page.title;
    byId("item").replaceWith(document.importNode(page.getElementById("item"), true));
    say(page.getElementById("label-status").textContent);
    window.scrollTo(0, 0);
    begin();
    if (byId("label-trouble").hidden) focusHeading();
  }
  function focusHeading() { byId("item-heading")?.focus({ preventScroll: true }); }

  // ---- differences -------------------------------------------------------------------------------------------------
  async function toggleDifferences() {
    const form = byId("difference-form"), button = byId("differences");
    if (!form) return;
    if (!form.dataset.loaded) {
      let answer, text;
      try {
        const address = `${form.action}?${new URLSearchParams(new FormData(form))}`;
        answer = await fetch(address, { headers: palate.headers(), signal: AbortSignal.timeout(TIMEOUT) });
        text = await answer.text();
      } catch {
        return say("There is no connection to the server; the differences cannot be shown now.");
      }
      if (byId("difference-form") !== form) return; // another item by now
      if (answer.status === 401) return (await palate.logIn()) && toggleDifferences();
      if (!answer.ok) return say(errorOf(answer, text));
      const page = new DOMParser().parseFromString(text, "text/html");
      for (const slot of ["first", "second"]) {
        const found = document.importNode(page.getElementById(`${slot}-difference`), true);
        byId(`${slot}-difference`).replaceChildren(...found.childNodes);
      }
      form.dataset.loaded = "yes";
    }
    const show = byId("first-difference").hidden;
    for (const slot of ["first", "second"]) {
      byId(`${slot}-text`).hidden = show;
      byId(`${slot}-difference`).hidden = !show;
    }
    button.setAttribute("aria-pressed", String(show));
    say(show ? "The words that differ are marked." : "The answers are shown as before.");
  }

  // ---- keys --------------------------------------------------------------------------------------------------------
  function openReason(field) {
    const details = ballot()?.querySelector("details.reason");
    if (!details) return;
    details.open = true;
    details.querySelector(field).focus();
  }
  const keysOn = () => byId("keys-on").checked;
  const inField = (target) => target.closest("textarea, select, input, dialog, [contenteditable], [popover]");
  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.defaultPrevented) return;
    if (event.key === "Escape" && event.target.closest("#ballot textarea, #ballot input")) return focusHeading();
    if (event.key === "?" && !event.target.closest("textarea, dialog")) {
      event.preventDefault();
      return byId("label-help").togglePopover();
    }
    if (!keysOn() || event.repeat || inField(event.target)) return;
    if (document.querySelector("dialog[open]") || byId("label-help").matches(":popover-open")) return;
    const key = event.key.toLowerCase();
    if (key === "d") toggleDifferences();
    else if (key === "r") openReason("textarea");
    else {
      const button = root.querySelector(`#item button[aria-keyshortcuts="${CSS.escape(key)}"]`);
      if (!button) return;
      send(button.form, button);
    }
    event.preventDefault();
  }
  document.addEventListener("keydown", onKey);
  root.addEventListener("submit", (event) => {
    event.preventDefault();
    if (event.target.id === "difference-form") toggleDifferences();
    else send(event.target, event.submitter);
  });
  root.addEventListener("input", saveDraft);
  root.addEventListener("change", saveDraft);
  window.addEventListener("pagehide", saveDraft);
  window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); }); // the back button
  byId("keys-choice").hidden = false;
  byId("keys-on").checked = stored(localStorage, "palate-keys") !== "off";
  byId("keys-on").addEventListener("change", () => stored(localStorage, "palate-keys", keysOn() ? "on" : "off"));

  function begin() {
    const form = ballot();
    byId("differences")?.setAttribute("aria-pressed", "false");
    startClock();
    palate.makeReachable();
    if (form) restoreDraft(form);
  }
  forgetOldDrafts();
  begin();
})();
