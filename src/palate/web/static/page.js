// What every page needs: requests with the CSRF token, and logging in again without leaving the page.
"use strict";

window.palate = (() => {
  const meta = document.querySelector('meta[name="csrf-token"]');
  const dialog = document.getElementById("login-dialog");
  const notice = document.getElementById("notice");
  let loggingIn = null;

  function setToken(token) {
    meta.content = token;
    for (const field of document.querySelectorAll('input[name="csrf_token"]')) field.value = token;
  }

  // A line at the bottom of the page, which screen readers read out.
  function notify(text) {
    notice.textContent = text;
    notice.hidden = !text;
  }

  function headers() {
    return { "Accept": "application/json", "X-CSRF-Token": meta.content };
  }

  async function renewToken() {
    const response = await fetch("/login", { headers: headers() });
    if (response.ok) setToken((await response.json()).csrf_token);
    return response.ok;
  }

  async function tryLogin(fields) {
    await renewToken();
    const response = await fetch("/login", { method: "POST", headers: headers(), body: new URLSearchParams(fields) });
    const answer = await response.json();
    if (!response.ok) return answer.error;
    setToken(answer.csrf_token);
    return null;
  }

  // Shows the dialog; true once the person has logged in, false if they closed it.
  function logIn() {
    if (!dialog) return Promise.resolve(false);
    loggingIn ??= new Promise((resolve) => {
      const form = dialog.querySelector("form");
      const message = form.querySelector(".message");
      const password = form.elements.namedItem("password");
      let done = false;
      form.onsubmit = async (event) => {
        event.preventDefault();
        try {
          const error = await tryLogin(new FormData(form));
          message.textContent = error ?? "";
        } catch {
          message.textContent = "The server does not answer.";
        }
        message.hidden = !message.textContent;
        done = message.hidden;
        if (done) dialog.close();
        else password.select();
      };
      form.querySelector('[value="cancel"]').onclick = () => dialog.close();
      dialog.onclose = () => {
        form.reset();
        message.hidden = true;
        loggingIn = null;
        resolve(done);
      };
      dialog.showModal();
      password.focus();
    });
    return loggingIn;
  }

  // POST a form (FormData or an object); resolves with the response. An expired login is renewed by the dialog, an old
  // token by a new one, and the same form is sent again. Rejects if the server does not answer, or if the whole answer
  // is not there after `timeout` milliseconds (0: however long it takes).
  async function send(url, form, timeout = 0) {
    const body = () => new URLSearchParams(form);
    const signal = () => (timeout ? AbortSignal.timeout(timeout) : undefined);
    const post = () => fetch(url, { method: "POST", headers: headers(), body: body(), signal: signal() });
    let response = await post();
    if (response.status === 403 && (await renewToken())) response = await post();
    while (response.status === 401 && (await logIn())) response = await post();
    return response;
  }

  function errorOf(text) {
    try {
      return JSON.parse(text).error;
    } catch {
      return "The server did not do it.";
    }
  }

  // Requests of htmx get the token too, and an expired login is renewed before the same request is sent again.
  document.addEventListener("htmx:configRequest", (event) => {
    event.detail.headers["X-CSRF-Token"] = meta.content;
  });
  document.addEventListener("htmx:responseError", async (event) => {
    const { xhr, elt } = event.detail;
    if (xhr.status === 401 && (await logIn())) {
      if (elt instanceof HTMLFormElement) elt.requestSubmit();
      else elt.click();
    } else {
      notify(errorOf(xhr.responseText));
    }
  });
  document.addEventListener("htmx:sendError", () => notify("The server does not answer."));

  // What scrolls sideways gets into the order of the Tab key.
  function makeReachable() {
    for (const box of document.querySelectorAll(".markdown table, .scroll"))
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  }
  makeReachable();
  document.addEventListener("toggle", makeReachable, true); // what was folded has no width before

  return { send, notify, logIn, headers, makeReachable };
})();
