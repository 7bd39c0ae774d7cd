// The free prompt: sends the prompt, shows both answers while they are written, then opens the page to vote on.
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const DRAFT = "palate-draft-prompt";
  const SILENCE = 60_000; // milliseconds; the server writes something every ten seconds
  let running = null; // the AbortController of the answers that are being written

  const form = () => byId("ask");
  function say(text) { byId("ask-status").textContent = text; }
  function trouble(text) {
    const box = byId("ask-trouble");
    box.textContent = text;
    box.hidden = !text;
  }
  function draft(value) {
    try { // storage may be full or switched off: then nothing is kept over a reload
      if (value === undefined) return sessionStorage.getItem(DRAFT) ?? "";
      if (value) sessionStorage.setItem(DRAFT, value);
      else sessionStorage.removeItem(DRAFT);
    } catch { /* nothing to do */ }
    return "";
  }

  // ---- one exchange --------------------------------------------------------------------------------------------
  async function ask() {
    const prompt = form().elements.prompt.value;
    if (running || !prompt.trim()) return;
    draft(prompt);
    trouble("");
    running = new AbortController();
    busy(true);
    const watch = watchdog(running);
    let again = false;
    try {
      const reply = await fetch(form().action, {
        method: "POST",
        body: new URLSearchParams(new FormData(form())),
        headers: palate.headers(),
        signal: running.signal,
      });
      if (reply.ok) await read(reply, watch);
      else if (reply.status === 401) again = await palate.logIn();
      else trouble(await refusal(reply));
      if (reply.status === 401 && !again) trouble("You are logged out. Your prompt is still here; log in and ask again.");
    } catch {
      trouble(running.signal.aborted && running.signal.reason === "stopped"
        ? "Stopped. Nothing was saved."
        : "The connection to the server broke off. Nothing was saved; your prompt is still here. Ask again.");
    } finally {
      watch.end();
      running = null;
      busy(false);
    }
    if (again) await ask();
  }
  async function refusal(reply) {
    let text = "";
    try { text = (await reply.json()).error; } catch { /* not palate's own error */ }
    return `${text || `The server answered ${reply.status}.`} Your prompt is still here.`;
  }
  function watchdog(controller) {
    let timer = 0;
    const reset = () => {
      clearTimeout(timer);
      timer = setTimeout(() => controller.abort("silent"), SILENCE);
    };
    reset();
    return { reset, end: () => clearTimeout(timer) };
  }
  function busy(on) {
    byId("ask-button").disabled = on;
    byId("stop-button").hidden = !on;
    byId("ask-answers").hidden = !on && !byId("ask-answers").dataset.begun;
    byId("ask-answers").setAttribute("aria-busy", String(on));
    form().elements.prompt.readOnly = on;
    if (!on) return;
    byId("ask-answers").dataset.begun = "yes";
    for (const slot of ["first", "second"]) {
      byId(`${slot}-stream`).textContent = "";
      byId(`${slot}-state`).textContent = "waiting…";
    }
    say("Both models are answering.");
  }

  // ---- the stream of events --------------------------------------------------------------------------------------
  async function read(reply, watch) {
    const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "", over = false;
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      watch.reset();
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) over = take(block) || over;
      if (over) return;
    }
    throw new Error("the stream ended before the answers did");
  }
  function take(block) {
    const lines = block.split("\n");
    const name = lines.find((line) => line.startsWith("event: "))?.slice(7);
    const data = lines.find((line) => line.startsWith("data: "))?.slice(6);
    if (!name || !data) return false; // a comment that keeps the connection alive
    return HANDLERS[name]?.(JSON.parse(data)) ?? false;
  }
  const HANDLERS = { // true: nothing follows
    text({ slot, text }) {
      byId(`${slot}-state`).textContent = "writing…";
      byId(`${slot}-stream`).append(text); // as text, never as HTML
    },
    ended({ slot, reason }) {
      byId(`${slot}-state`).textContent = reason === "length" ? "ended at the limit of tokens" : "";
    },
    failed({ slot, reason }) {
      byId(`${slot}-stream`).textContent = "";
      byId(`${slot}-state`).textContent = `failed: ${reason}`;
    },
    again({ message }) {
      trouble(message);
      say("");
      byId("ask-button").focus();
      return true;
    },
    ready({ address }) {
      draft("");
      say("Both answers are saved. Now choose.");
      location.assign(address);
      return true;
    },
  };

  // ---- the form; it is replaced when a vote is acknowledged, so listeners are on the document -------------------
  document.addEventListener("submit", (event) => {
    if (event.target.id !== "ask") return;
    event.preventDefault();
    event.stopImmediatePropagation(); // the labelling script sends every other form of the page
    ask();
  }, true);
  document.addEventListener("click", (event) => {
    if (event.target.closest("#stop-button")) running?.abort("stopped");
  });
  document.addEventListener("input", (event) => {
    if (event.target.id === "prompt") draft(event.target.value);
  });
  document.addEventListener("keydown", (event) => {
    if (event.target.id === "prompt" && event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      ask();
    }
  });
  window.addEventListener("pagehide", () => running?.abort("left"));
  const field = byId("prompt");
  if (field && !field.value) field.value = draft();
})();
