"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const part = (id) => document.getElementById(id);
  const page = part("page"), range = part("steps"), play = part("play"), speed = part("speed");
  const bars = Array.from(part("bars").children);
  const last = data.pages.length - 1;
  let at = -1, clock = 0, before = null, next = 0;

  function row(cells) {
    const line = document.createElement("div");
    for (let i = 0; i < cells.length; i += 2) {
      const span = document.createElement("span");
      span.className = "c" + cells[i];
      span.textContent = cells[i + 1];
      line.append(span);
    }
    return line;
  }

  function show(to) {
    to = Math.max(0, Math.min(last, to));
    if (to === at) return;
    const old = at < 0 ? [] : data.pages[at];
    const rows = data.pages[to];
    if (at < 0) page.replaceChildren();
    rows.forEach((number, y) => {
      if (number === old[y]) return;
      const line = row(data.rows[number]);
      if (y < page.children.length) page.children[y].replaceWith(line);
      else page.append(line);
    });
    while (page.children.length > rows.length) page.lastElementChild.remove();
    bars.forEach((bar, number) => bar.classList.toggle("ahead", number > data.bars[to]));
    part("status").textContent = data.status[to];
    part("meters").textContent = data.meters[to];
    part("clock").textContent = data.seconds[to].toFixed(2) + " s of " + data.seconds[last].toFixed(2) + " s";
    range.value = String(to);
    range.setAttribute("aria-valuetext", data.status[to]);
    at = to;
  }

  function stop() {
    cancelAnimationFrame(next);
    before = null;
    play.textContent = "play";
  }

  function seek(to) {
    stop();
    show(to);
  }

  function tick(now) {
    clock += (now - before) / 1000 * Number(speed.value);
    before = now;
    let to = at;
    while (to < last && data.times[to + 1] <= clock) to += 1;
    show(to);
    if (at === last) stop();
    else next = requestAnimationFrame(tick);
  }

  function toggle() {
    if (before !== null) {
      stop();
      return;
    }
    if (at === last) show(0);
    clock = data.times[at];
    before = performance.now();
    play.textContent = "pause";
    next = requestAnimationFrame(tick);
  }

  function faster(by) {
    speed.selectedIndex = Math.max(0, Math.min(speed.options.length - 1, speed.selectedIndex + by));
  }

  range.addEventListener("input", () => seek(Number(range.value)));
  play.addEventListener("click", toggle);
  part("bars").addEventListener("click", (event) => {
    const bar = bars.indexOf(event.target);
    if (bar >= 0) seek(data.bars.findIndex((number) => number >= bar));
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target === speed) return;
    const keys = {
      " ": toggle,
      ArrowLeft: () => seek(at - 1), "[": () => seek(at - 1),
      ArrowRight: () => seek(at + 1), "]": () => seek(at + 1),
      Home: () => seek(0), "{": () => seek(0),
      End: () => seek(last), "}": () => seek(last),
      "+": () => faster(1), "-": () => faster(-1),
    };
    const act = keys[event.key];
    if (!act || (event.key === " " && event.target === play)) return;
    event.preventDefault();
    act();
  });

  part("controls").hidden = part("keys").hidden = false;
  show(data.first);
})();
