"use strict";
(() => {
const $ = id => document.getElementById(id);
const DATA = JSON.parse($("data").textContent);
const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
const floats = text => new Float32Array(bytes(text).buffer);
const clamp = (v, low, high) => Math.min(Math.max(v, low), high);
const COLOURS = bytes(DATA.colours);
const video = $("video"), stage = $("stage"), canvas = $("heat");
const charts = { wave: $("wave"), sure: $("sure"), track: $("track") };
const HELD = {};  // unpacked clips
const state = { clip: 0, opacity: 0.75, threshold: 0, heat: true, peak: true, boxes: true, time: 0 };
let wanted = null;  // a time that the video could not go to yet

function unpack(number) {
  if (HELD[number]) return HELD[number];
  const c = DATA.clips[number];
  HELD[number] = Object.assign({}, c, { times: floats(c.times), heat: bytes(c.heat), confidence: floats(c.confidence),
    peaks: floats(c.peaks), frames: floats(c.frames), wave: bytes(c.wave) });
  return HELD[number];
}
const clip = () => unpack(state.clip);

/** Number of values of a rising list that are at most `value`. */
function upTo(list, value) {
  let low = 0, high = list.length;
  while (low < high) { const m = (low + high) >> 1; if (list[m] <= value) low = m + 1; else high = m; }
  return low;
}
/** [index, index, share]: between which two maps a time lies. */
function between(c, time) {
  const after = upTo(c.times, time), last = c.times.length - 1;
  if (after === 0) return [0, 0, 0];
  if (after > last) return [last, last, 0];
  return [after - 1, after, (time - c.times[after - 1]) / (c.times[after] - c.times[after - 1])];
}
const at = (c, list, time) => { const [a, b, s] = between(c, time); return (1 - s) * list[a] + s * list[b]; };

/** The map of a time in 0..255, enlarged bilinearly; its maximum and where. */
function heatAt(c, time) {
  const [h, w] = c.shape, [a, b, share] = between(c, time), n = h * w;
  const map = new Float32Array(n);
  for (let i = 0; i < n; i++) map[i] = (1 - share) * c.heat[a * n + i] + share * c.heat[b * n + i];
  const k = clamp(Math.floor(192 / Math.max(h, w)), 1, 12), H = h * k, W = w * k, out = new Float32Array(H * W);
  let top = -1, place = 0;
  for (let y = 0; y < H; y++) {
    const v = clamp((y + 0.5) / k - 0.5, 0, h - 1), y0 = Math.floor(v), y1 = Math.min(y0 + 1, h - 1), fy = v - y0;
    for (let x = 0; x < W; x++) {
      const u = clamp((x + 0.5) / k - 0.5, 0, w - 1), x0 = Math.floor(u), x1 = Math.min(x0 + 1, w - 1), fx = u - x0;
      const value = (1 - fy) * ((1 - fx) * map[y0 * w + x0] + fx * map[y0 * w + x1])
        + fy * ((1 - fx) * map[y1 * w + x0] + fx * map[y1 * w + x1]);
      out[y * W + x] = value;
      if (value > top) { top = value; place = y * W + x; }
    }
  }
  return { values: out, width: W, height: H, top, x: ((place % W) + 0.5) / W, y: (Math.floor(place / W) + 0.5) / H };
}

const small = document.createElement("canvas");
function fit(target) {  // pixels of the screen, so that lines are sharp
  const ratio = window.devicePixelRatio || 1, box = target.getBoundingClientRect();
  const width = Math.max(Math.round(box.width * ratio), 1), height = Math.max(Math.round(box.height * ratio), 1);
  if (target.width !== width || target.height !== height) { target.width = width; target.height = height; }
  const pen = target.getContext("2d");
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.clearRect(0, 0, width, height);
  return [pen, width, height, ratio];
}

function drawHeat() {
  const c = clip(), [pen, width, height, ratio] = fit(canvas);
  const [x0, y0, x1, y1] = c.area, left = x0 * width, top = y0 * height, w = (x1 - x0) * width, h = (y1 - y0) * height;
  const found = heatAt(c, state.time);
  state.x = x0 + found.x * (x1 - x0); state.y = y0 + found.y * (y1 - y0);
  if (state.heat) {
    small.width = found.width; small.height = found.height;
    const brush = small.getContext("2d"), image = brush.createImageData(found.width, found.height);
    const least = Math.max(state.threshold * 255, 0.5);
    for (let i = 0; i < found.values.length; i++) {
      const value = found.values[i];
      if (value < least) continue;
      const colour = 3 * Math.round(value);
      for (let j = 0; j < 3; j++) image.data[4 * i + j] = COLOURS[colour + j];
      image.data[4 * i + 3] = Math.round(value * state.opacity);
    }
    brush.putImageData(image, 0, 0);
    pen.imageSmoothingEnabled = true; pen.imageSmoothingQuality = "high";
    pen.drawImage(small, left, top, w, h);
  }
  if (x0 > 0.005 || y0 > 0.005 || x1 < 0.995 || y1 < 0.995) {  // the rest of the picture the model never saw
    pen.lineWidth = 1.5 * ratio;
    for (const [colour, shift] of [["rgba(0,0,0,.8)", 0], ["rgba(255,255,255,.9)", 5 * ratio]]) {
      pen.setLineDash([5 * ratio, 5 * ratio]); pen.lineDashOffset = shift; pen.strokeStyle = colour;
      pen.strokeRect(left + ratio, top + ratio, w - 2 * ratio, h - 2 * ratio);
    }
    pen.setLineDash([]);
  }
  if (state.boxes) for (const [from, to, boxes] of c.boxes) if (from <= state.time + 1e-4 && state.time < to + 1e-4)
    for (const b of boxes) for (const [colour, line] of [["#000", 5], ["#fff", 2.5]]) {
      pen.strokeStyle = colour; pen.lineWidth = line * ratio;
      pen.strokeRect(b[0] * width, b[1] * height, (b[2] - b[0]) * width, (b[3] - b[1]) * height);
    }
  if (state.peak && found.top >= Math.max(state.threshold * 255, 0.5))
    for (const [colour, line] of [["#000", 5], ["#78ffff", 2.5]]) {
      pen.strokeStyle = colour; pen.lineWidth = line * ratio; pen.beginPath();
      pen.arc(state.x * width, state.y * height, 9 * ratio, 0, 7); pen.stroke();
    }
}

const style = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const xOf = (time, width) => time / Math.max(clip().duration, 1e-6) * width;
function cursor(pen, width, height, ratio) {
  const x = clamp(xOf(state.time, width), ratio, width - ratio);
  pen.fillStyle = style("--ink"); pen.fillRect(x - ratio, 0, 2 * ratio, height);
}
function curve(pen, c, value, colour, width, dash) {
  pen.strokeStyle = colour; pen.lineWidth = 2 * (window.devicePixelRatio || 1); pen.setLineDash(dash || []);
  pen.lineJoin = "round"; pen.beginPath();
  for (let i = 0; i < c.times.length; i++) pen.lineTo(xOf(c.times[i], width), value(i));
  pen.stroke(); pen.setLineDash([]);
}
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 600, 1800, 3600];
const ticks = (duration, count) => STEPS.find(s => duration / s <= count) || 7200;
function grid(pen, width, height, ratio) {
  const c = clip(), every = ticks(c.duration, 8);
  pen.fillStyle = style("--grid");
  for (let i = 1; i * every < c.duration; i++) pen.fillRect(xOf(i * every, width), 0, ratio, height);
}
function axis() {
  const c = clip(), [pen, width, height, ratio] = fit($("axis")), every = ticks(c.duration, 8);
  pen.fillStyle = style("--muted"); pen.font = 12 * ratio + "px system-ui, sans-serif"; pen.textBaseline = "middle";
  for (let i = 0; i * every < c.duration; i++) {
    const text = every < 60 && c.duration < 60 ? String(Math.round(i * every * 10) / 10) + (i ? "" : " s")
      : Math.floor(i * every / 60) + ":" + String(Math.round(i * every % 60)).padStart(2, "0");
    const x = xOf(i * every, width), wide = pen.measureText(text).width;
    if (x + wide / 2 < width) pen.fillText(text, i ? x - wide / 2 : 0, height / 2);
  }
}
const PAINTED = {};  // what does not move with the time: a film has too many maps to draw with every frame
function chart(name, paint) {
  const [pen, width, height, ratio] = fit(charts[name]), key = [state.clip, width, height, ratio].join();
  if (!PAINTED[name] || PAINTED[name].key !== key) {
    const still = document.createElement("canvas");
    still.width = width; still.height = height;
    paint(still.getContext("2d"), width, height, ratio);
    PAINTED[name] = { key, still };
  }
  pen.drawImage(PAINTED[name].still, 0, 0);
  cursor(pen, width, height, ratio);
}
function drawCharts() {
  const c = clip();
  axis();
  chart("wave", (pen, width, height, ratio) => {
    grid(pen, width, height, ratio);
    pen.fillStyle = style("--p7");
    const n = c.wave.length, loudest = Math.max(13, ...c.wave);  // quiet sound is enlarged, noise is not
    for (let x = 0; x < width; x++) {
      let peak = 0;
      for (let i = Math.floor(x * n / width); i < Math.max((x + 1) * n / width, x * n / width + 1); i++)
        peak = Math.max(peak, c.wave[Math.min(i, n - 1)]);
      const tall = Math.max(peak / loudest * (height - 2), ratio);
      pen.fillRect(x, (height - tall) / 2, 1, tall);
    }
  });
  chart("sure", (pen, width, height, ratio) => {
    grid(pen, width, height, ratio);
    const [low, high] = c.range, span = Math.max(high - low, 1e-9), pad = 4 * ratio;
    curve(pen, c, i => height - pad - clamp((c.confidence[i] - low) / span, 0, 1) * (height - 2 * pad), style("--p2"), width);
  });
  chart("track", (pen, width, height, ratio) => {
    const pad = 4 * ratio;
    grid(pen, width, height, ratio);
    curve(pen, c, i => pad + c.peaks[2 * i] * (height - 2 * pad), style("--p0"), width);
    curve(pen, c, i => pad + c.peaks[2 * i + 1] * (height - 2 * pad), style("--p1"), width, [6 * ratio, 4 * ratio]);
  });
}

const clock = t => { const m = Math.floor(t / 60); return (m ? m + ":" + String(Math.floor(t % 60)).padStart(2, "0")
  + (t % 1).toFixed(2).slice(1) : t.toFixed(2) + " s"); };
function frameNumber() { return Math.max(upTo(clip().frames, state.time + 1e-3) - 1, 0); }
function tell() {
  const c = clip(), n = c.frames.length;
  $("time").textContent = clock(state.time) + " of " + clock(c.duration)
    + (n ? " · frame " + (frameNumber() + 1) + " of " + n : "");
  $("now").textContent = "peak x " + state.x.toFixed(2) + ", y " + state.y.toFixed(2)
    + ", confidence " + at(c, c.confidence, state.time).toPrecision(3);
  charts.wave.setAttribute("aria-valuemax", c.duration.toFixed(2));
  charts.wave.setAttribute("aria-valuenow", state.time.toFixed(2));
  charts.wave.setAttribute("aria-valuetext", clock(state.time) + " of " + clock(c.duration));
  document.documentElement.dataset.time = state.time.toFixed(3);
}
function show() { drawHeat(); drawCharts(); tell(); }

function goTo(time) {
  state.time = clamp(time, 0, clip().duration);
  if (video.readyState >= 1) video.currentTime = state.time; else wanted = state.time;
  show();
}
/** To the frame so many later; into its middle, since a browser may round a time down. */
function step(count) {
  video.pause();
  const c = clip(), n = c.frames.length;
  if (!n) return goTo(state.time + count / 25);
  const i = clamp(frameNumber() + count, 0, n - 1), end = i + 1 < n ? c.frames[i + 1] : c.duration;
  goTo(c.frames[i] + 0.4 * Math.max(Math.min(end - c.frames[i], 0.1), 0));
}
function say(text) { $("said").textContent = text; }
function toggle() {
  if (!video.paused) return video.pause();
  if (state.time >= clip().duration - 0.05) goTo(0);
  const started = video.play();
  if (started) started.catch(error => { if (error.name !== "AbortError") say("The clip cannot be played: " + error.message); });
}
function set(name, value) {
  state[name] = clamp(Math.round(value * 100) / 100, 0, 1);
  $(name).value = Math.round(state[name] * 100);
  $(name + "-told").textContent = Math.round(state[name] * 100) + " %";
  say((name === "opacity" ? "opacity of the heat " : "heat from ") + Math.round(state[name] * 100) + " %");
  drawHeat();
}
function flip(name) {
  state[name] = !state[name];
  const button = $("show-" + name);
  button.setAttribute("aria-pressed", state[name]);
  say(button.textContent.trim() + (state[name] ? " shown" : " hidden"));
  drawHeat();
}
function mute() {
  video.muted = !video.muted;
  $("mute").setAttribute("aria-pressed", video.muted);
  say(video.muted ? "sound off" : "sound on");
}
function help(open) {
  const box = $("help"), now = open === undefined ? !box.open : open;
  if (now === box.open) return;
  if (now) box.showModal(); else box.close();
}
function choose(number, time) {
  state.clip = (number + DATA.clips.length) % DATA.clips.length;
  const c = clip();
  state.time = 0; wanted = time || null;
  video.src = c.media;
  stage.style.setProperty("--ratio", c.width / c.height);
  $("name").textContent = c.key;
  $("about").textContent = c.about;
  $("notes").hidden = !c.notes.length;
  $("notes").replaceChildren(...c.notes.map(text => Object.assign(document.createElement("li"), { textContent: text })));
  charts.sure.setAttribute("aria-label", "Confidence: " + c.said.confidence);
  charts.track.setAttribute("aria-label", "Place of the peak: " + c.said.track);
  $("sure-range").textContent = c.range[0].toPrecision(3) + " to " + c.range[1].toPrecision(3);
  $("show-boxes").hidden = !c.boxes.length;
  for (const [name, url] of Object.entries(c.links)) { $("link-" + name).href = url; }
  document.querySelectorAll("[data-clip]").forEach(b => {
    if (Number(b.dataset.clip) === state.clip) {
      b.setAttribute("aria-current", "true");
      const list = b.closest("ol"), box = b.getBoundingClientRect(), around = list.getBoundingClientRect();
      if (box.top < around.top) list.scrollTop -= around.top - box.top;  // the list alone scrolls, never the page
      else if (box.bottom > around.bottom) list.scrollTop += box.bottom - around.bottom;
    }
    else b.removeAttribute("aria-current");
  });
  document.documentElement.dataset.clip = state.clip;
  say("");
  if (time) state.time = clamp(time, 0, c.duration);
  show();
}

video.addEventListener("loadedmetadata", () => {
  if (video.videoWidth) stage.style.setProperty("--ratio", video.videoWidth / video.videoHeight);
  if (wanted !== null) { video.currentTime = wanted; wanted = null; }
  show();
});
video.addEventListener("error", () => say("This browser cannot play " + clip().media + "; the maps can still be looked through."));
const follow = () => { if (wanted === null) { state.time = clamp(video.currentTime, 0, clip().duration); show(); } };
["seeked", "timeupdate", "loadeddata", "ended"].forEach(name => video.addEventListener(name, follow));
if (video.requestVideoFrameCallback) {  // the heat of the very frame on the screen
  const each = (_, frame) => { if (!video.paused) { state.time = frame.mediaTime; show(); } video.requestVideoFrameCallback(each); };
  video.requestVideoFrameCallback(each);
} else {
  const each = () => { if (!video.paused) follow(); requestAnimationFrame(each); };
  requestAnimationFrame(each);
}
for (const name of ["play", "pause"]) video.addEventListener(name, () => {
  $("play").textContent = video.paused ? "Play" : "Pause";
  document.documentElement.dataset.playing = !video.paused;
});

for (const chart of Object.values(charts)) {
  const seek = event => { const box = chart.getBoundingClientRect(); goTo((event.clientX - box.left) / box.width * clip().duration); };
  chart.addEventListener("pointerdown", event => {
    if (event.button) return;
    seek(event);
    try { chart.setPointerCapture(event.pointerId); } catch { /* a pointer that is gone already */ }
  });
  chart.addEventListener("pointermove", event => { if (event.buttons & 1) seek(event); });
}
$("play").addEventListener("click", toggle);
$("back").addEventListener("click", () => step(-1));
$("on").addEventListener("click", () => step(1));
$("mute").addEventListener("click", mute);
$("ask").addEventListener("click", () => help(true));
$("close").addEventListener("click", () => help(false));
stage.addEventListener("click", toggle);
$("speed").addEventListener("change", () => { video.playbackRate = video.defaultPlaybackRate = Number($("speed").value); });
for (const name of ["opacity", "threshold"]) $(name).addEventListener("input", () => set(name, $(name).value / 100));
for (const name of ["heat", "peak", "boxes"]) $("show-" + name).addEventListener("click", () => flip(name));
document.querySelectorAll("[data-clip]").forEach(b => b.addEventListener("click", () => choose(Number(b.dataset.clip))));

const KEYS = {
  " ": toggle, k: toggle,
  ArrowLeft: e => e.shiftKey ? goTo(state.time - 1) : step(-1), ArrowRight: e => e.shiftKey ? goTo(state.time + 1) : step(1),
  ",": () => step(-1), ".": () => step(1),
  Home: () => goTo(0), End: () => goTo(clip().duration),
  "[": () => set("opacity", state.opacity - 0.05), "]": () => set("opacity", state.opacity + 0.05),
  "-": () => set("threshold", state.threshold - 0.05), "=": () => set("threshold", state.threshold + 0.05),
  "+": () => set("threshold", state.threshold + 0.05),
  o: () => flip("heat"), p: () => flip("peak"), b: () => clip().boxes.length && flip("boxes"), m: mute,
  ArrowUp: () => DATA.clips.length > 1 && choose(state.clip - 1), ArrowDown: () => DATA.clips.length > 1 && choose(state.clip + 1),
  h: () => help(), "?": () => help(),
};
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const on = event.target, moves = /^(Arrow|Home|End|Page)/.test(event.key);
  if (on.matches && on.matches("input, select") && (moves || on.matches("select"))) return;  // it has a use for them itself
  if (on.matches && on.matches("button, a, summary") && event.key === " ") return;
  if ($("help").open && event.key !== "h" && event.key !== "?") return;
  if (on === charts.wave && /^Arrow(Up|Down)$/.test(event.key)) {
    event.preventDefault(); goTo(state.time + (event.key === "ArrowUp" ? 1 : -1)); return;
  }
  const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (act) { event.preventDefault(); act(event); }
});
new ResizeObserver(show).observe(stage);
new ResizeObserver(drawCharts).observe(charts.wave);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { for (const name in PAINTED) delete PAINTED[name]; show(); });

const hash = new URLSearchParams(location.hash.slice(1));
const first = Math.floor(Number(hash.get("clip")));
choose(first >= 0 && first < DATA.clips.length ? first : 0, Math.max(Number(hash.get("t")) || 0, 0));
})();
