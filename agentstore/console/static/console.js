// What pages gain with script: new messages as they are stored, keys, copying, and folding. Pages are complete without.
"use strict";

(() => {
  const $ = (selector, within = document) => within.querySelector(selector);
  const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];

  // Copy an id.
  if (navigator.clipboard) {
    for (const button of $$("button[data-copy]")) button.hidden = false;
  }
  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("button[data-copy]");
    if (!button) return;
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
    } catch {
      return;
    }
    const label = $("span", button);
    label.textContent = " " + document.body.dataset.copied;
    setTimeout(() => { label.textContent = ""; }, 1500);
  });

  // A link to an output, which is within a folded call.
  const unfoldTarget = () => {
    const target = document.getElementById(location.hash.slice(1));
    if (!target) return;
    for (let at = target.parentElement; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    target.scrollIntoView();
  };
  addEventListener("hashchange", unfoldTarget);
  unfoldTarget();
  const marked = $(".message.marked");
  if (marked && !location.hash) marked.scrollIntoView({ block: "center" });

  // Keys. The current row or message moves with j and k.
  const stops = () => $$("a[data-row], .message");
  let current = null;
  const go = (step) => {
    const all = stops();
    if (!all.length) return;
    const index = all.indexOf(current);
    const next = all[index < 0 ? (step > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, index + step))];
    (current?.closest("tr") ?? current)?.classList.remove("current");
    current = next;
    (current.closest("tr") ?? current).classList.add("current");
    current.focus({ preventScroll: true });
    current.scrollIntoView({ block: "nearest" });
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const target = event.target;
    if (event.key === "Escape" && target.matches?.("input, select")) return target.blur();
    if (target.closest?.("input, select, textarea, [contenteditable]")) return;
    if (event.key === "/") {
      const field = $("[data-search]");
      if (!field) return;
      event.preventDefault();
      field.focus();
      field.select();
    } else if (event.key === "j" || event.key === "k") {
      event.preventDefault();
      go(event.key === "j" ? 1 : -1);
    } else if (event.key === "Enter" && target.matches?.(".message")) {
      const fold = $("details", target);
      if (fold) fold.open = !fold.open;
    } else {
      const link = $$("a[data-key]").find((each) => each.dataset.key === event.key);
      if (link) {
        event.preventDefault();
        link.click();
      }
    }
  });

  // New messages of a session, rendered by the server like those of the page.
  const messages = $("#messages[data-follow]");
  if (messages) follow(messages, $("#tail"), $("#refresh"));

  function follow(list, sign, refresh) {
    const url = new URL(list.dataset.follow, location.href);
    let source = null;
    const show = (text, kind) => {
      if (!sign) return;
      sign.textContent = text;
      sign.className = "chip " + kind;
    };
    const start = () => {
      source = new EventSource(url);
      source.addEventListener("open", () => {
        show(sign.dataset.live, "ok");
        if (refresh) refresh.hidden = true;
      });
      source.addEventListener("error", () => {
        show(sign.dataset.lost, "warning");
        if (refresh) refresh.hidden = false;
        if (source.readyState === EventSource.CLOSED) setTimeout(restart, 5000);
      });
      source.addEventListener("gone", () => {
        show(sign.dataset.gone, "problem");
        stop();
      });
      source.addEventListener("message", (event) => {
        const { seq, html } = JSON.parse(event.data);
        url.searchParams.set("after", seq);
        add(html, seq);
      });
    };
    const stop = () => { source?.close(); source = null; };
    const restart = () => { stop(); if (!document.hidden) start(); };
    // A page in the background needs no connection; it reads what it has missed when it is looked at.
    document.addEventListener("visibilitychange", () => (document.hidden ? stop() : source || start()));
    addEventListener("pagehide", stop);

    const add = (html, seq) => {
      if (document.getElementById("m" + seq)) return;
      const isAtEnd = innerHeight + scrollY > document.documentElement.scrollHeight - 160;
      const template = document.createElement("template");
      template.innerHTML = html;
      const added = template.content.querySelector(".message");
      if (!added) return;
      const call = added.dataset.output && $$(".message[data-call]", list).find((each) => each.dataset.call === added.dataset.output);
      const outputs = call && $(".outputs", call);
      const day = template.content.querySelector(".day time");
      const days = $$(".day time", list);
      if (day && days.length && days.at(-1).dateTime === day.dateTime) day.parentElement.remove();
      if (outputs) {
        outputs.append(template.content);
        return;
      }
      added.classList.add("new");
      list.append(template.content);
      // What a page holds is bounded: the oldest messages are still stored, and a link leads to them.
      const shown = list.children;
      while (shown.length > 1000) shown[0].remove();
      if (isAtEnd) scrollTo({ top: document.documentElement.scrollHeight });
    };
    if (!document.hidden) start();
  }
})();
