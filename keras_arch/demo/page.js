// The page: pictures, drawings and camera frames in, the most probable classes out.

const TOP = 5; // classes that are shown, and compared with Python's
const VISIBLE = 0.0005; // smallest probability that is shown, rounded to 0.1%
const SMALL = 160; // pixels. The preview of a narrower picture shows its pixels
const PAD = 280; // pixels of the drawing's longer side
const PAD_REM = 20; // width of the drawing's longer side on the screen
const PEN = 0.1; // width of the pen as a share of the drawing's shorter side
const PEN_STEP = 0.04; // way of the pen for an arrow key, as a share of the shorter side
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const byId = (id) => document.getElementById(id);
const facts = JSON.parse(byId("facts").textContent);
const found = document.documentElement.dataset; // what the page found, for tests
const client = { worker: null, requests: new Map(), count: 0, failure: null };
const pen = { x: 0, y: 0, down: false, pointer: null, isWaiting: false };

let model = null; // {name, height, width, channels, classNames} of the open file
let chosen = null; // the picture {width, height, rgb} in the mode for pictures
let isDrawn = false; // whether the drawing has a stroke
let stream = null; // of the camera
let view = 0; // number of what the user wants to see. The answer for an older view is dropped
let queue = Promise.resolve(); // tasks of the user, in order

start();

async function start() {
  try {
    await startWorker();
    await openEmbedded(0);
  } catch (error) {
    console.error(error);
    found.state = "failed";
    byId("controls").hidden = true;
    byId("check").textContent = "";
    showMessage(
      "This browser cannot run the page. It needs WebAssembly with SIMD, as in Chrome 123, " +
        "Firefox 120, Safari 17.5 or later.",
    );
    return;
  }
  showFiles();
  showSamples();
  listen();
  byId("controls").disabled = false;
  if (facts.samples.length) await choosePicture(sampleBlob(facts.samples[0]));
  found.state = "ready";
}

/** Do a task after those before it. An error is shown. Returns a promise. */
function inOrder(task) {
  queue = queue.then(task).catch((error) => showMessage(error.message));
  return queue;
}

// ---- Data in the page -------------------------------------------------------------------------

/** Return the bytes of a compressed block of the page. */
async function unpack(id) {
  const compressed = new Blob([fromBase64(byId(id).textContent)]);
  const unpacked = compressed.stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(unpacked).arrayBuffer());
}

function fromBase64(text) {
  const characters = atob(text);
  const bytes = new Uint8Array(characters.length);
  for (let at = 0; at < bytes.length; at++) bytes[at] = characters.charCodeAt(at);
  return bytes;
}

function sampleBlob(sample) {
  return new Blob([fromBase64(sample.png)], { type: "image/png" });
}

// ---- The runtime ------------------------------------------------------------------------------

async function startWorker() {
  const script = new Blob([await unpack("runtime-script")], { type: "text/javascript" });
  client.worker = new Worker(URL.createObjectURL(script));
  client.worker.onmessage = ({ data: { id, result, error } }) => {
    const { resolve, reject } = client.requests.get(id);
    client.requests.delete(id);
    if (error === undefined) resolve(result);
    else reject(new Error(error));
  };
  client.worker.onerror = ({ message }) => {
    client.failure = new Error(`LiteRT.js stopped. Reload the page. ${message}`);
    for (const { reject } of client.requests.values()) reject(client.failure);
    client.requests.clear();
  };
  await ask("start", await unpack("runtime-wasm"));
}

/** Send a request to worker.js. Returns a promise of its result. */
function ask(action, argument) {
  if (client.failure) return Promise.reject(client.failure);
  const id = client.count++;
  return new Promise((resolve, reject) => {
    client.requests.set(id, { resolve, reject });
    client.worker.postMessage({ id, [action]: argument });
  });
}

// ---- The exported file ------------------------------------------------------------------------

function showFiles() {
  for (const [number, { name, bytes }] of facts.files.entries()) {
    byId("files").append(new Option(`${name} (${formatBytes(bytes)})`, number));
  }
}

/** Open a file of the page or from disk, and classify again. An error leaves the old file open. */
function changeFile(name, open) {
  return inOrder(async () => {
    const before = byId("check").textContent;
    byId("check").textContent = `Loading ${name} ...`;
    try {
      await open();
    } catch (error) {
      byId("check").textContent = before;
      throw new Error(`${name} cannot be opened. ${error.message}`);
    } finally {
      byId("files").value = model.option;
    }
    showMessage("");
  }).then(classifyView);
}

/** Open one of the files in the page, and compare it with Python. */
async function openEmbedded(number) {
  const { name } = facts.files[number];
  await openModel(name, String(number), await unpack(`model-${number}`));
  await compareWithPython(facts.files[number]);
}

/** Open a file from disk. */
async function openFromDisk(file) {
  const content = await file.arrayBuffer().catch(() => {
    throw new Error("It cannot be read from disk.");
  });
  await openModel(file.name, "disk", new Uint8Array(content));
  byId("files").querySelector("[value=disk]")?.remove();
  byId("files").append(new Option(`${file.name} (${formatBytes(file.size)})`, "disk"));
  byId("files").lastChild.file = file;
  delete found.pictures;
  delete found.difference;
  byId("check").textContent = "This file from disk is not compared with Python.";
}

async function openModel(name, option, bytes) {
  model = { name, option, ...(await ask("open", bytes)) };
  found.file = name;
  showPad();
  showControls();
}

/** Classify the test images, and compare the probabilities with those of Python. */
async function compareWithPython({ answers, limit }) {
  if (!answers.length) {
    byId("check").textContent = "There are no test images to compare with Python.";
    return;
  }
  let difference = 0;
  for (const [at, expected] of answers.entries()) {
    const { probabilities } = await classify(await decodePicture(sampleBlob(facts.samples[at])));
    for (const [label, probability] of expected) {
      difference = Math.max(difference, Math.abs(probabilities[label] - probability));
    }
  }
  found.pictures = answers.length;
  found.difference = difference;
  const result = difference
    ? `differ from Python's by up to ${difference.toExponential(1)}`
    : "are equal to Python's";
  const warning = difference <= limit ? "" : ` This is more than ${limit}: do not trust this browser.`;
  byId("check").textContent = `Probabilities of ${answers.length} test images ${result}.${warning}`;
}

// ---- Classification ---------------------------------------------------------------------------

/** Classify a picture {width, height, rgb}. Returns {probabilities, milliseconds, pixels}. */
async function classify(picture, isInverted = false) {
  const shape = [model.height, model.width, model.channels].join();
  picture.resized ??= {}; // {shape: pixels}, because large pictures take seconds
  let pixels = (picture.resized[shape] ??= pixelsFor(picture, model));
  if (isInverted) pixels = pixels.map((value) => 255 - value);
  return { ...(await ask("classify", pixels)), pixels };
}

const SOURCES = { // {mode: function that returns its picture, or null}
  picture: () => chosen,
  draw: () => (isDrawn ? readPicture(byId("pad"), byId("pad").width, byId("pad").height) : null),
  camera: () => stream && readPicture(byId("video"), byId("video").videoWidth, byId("video").videoHeight),
};

/** Classify what the mode shows. */
function classifyView() {
  const wanted = view;
  return inOrder(async () => {
    if (wanted !== view) return;
    const picture = SOURCES[mode()]();
    if (!picture) return showNothing();
    const answer = await classify(picture, byId("invert").checked && mode() !== "draw");
    if (wanted === view) showAnswer(answer);
  });
}

function showAnswer({ probabilities, milliseconds, pixels }) {
  const order = Array.from(probabilities.keys()).sort((a, b) => probabilities[b] - probabilities[a]);
  const top = order.slice(0, TOP).filter((label, at) => !at || probabilities[label] >= VISIBLE);
  byId("answers").replaceChildren(...top.map((label) => answerItem(label, probabilities[label])));
  const [name, probability] = [nameOf(top[0]), probabilities[top[0]]];
  const isUnsure = showSure(probability);
  const first = `${isUnsure ? "Unsure: " : ""}${name}, `;
  // Screen readers speak a change of the first class only, not every camera frame.
  if (mode() !== "camera" || !byId("first").textContent.startsWith(first)) {
    byId("first").textContent = first + formatPercent(probability);
  }
  Object.assign(found, { answer: name, probability, unsure: isUnsure });
  byId("time").textContent = `${model.name}: ${formatTime(milliseconds)}`;
  drawSeen(pixels);
}

/** Show whether a probability reaches the threshold of the run. Returns whether it does not. */
function showSure(probability) {
  // The threshold is of the files in the page, not of a file from disk.
  const threshold = model.option === "disk" ? null : facts.threshold;
  const isUnsure = threshold !== null && probability < threshold;
  const relation = isUnsure ? "Unsure: the probability is below" : "The probability reaches";
  byId("sure").textContent =
    threshold === null ? "" : `${relation} the threshold of ${formatPercent(threshold)}.`;
  byId("sure").classList.toggle("unsure", isUnsure);
  return isUnsure;
}

function showNothing() {
  for (const id of ["answers", "first", "sure", "time", "size"]) byId(id).replaceChildren();
  byId("seen").hidden = true;
  delete found.answer;
  delete found.probability;
  delete found.unsure;
}

function answerItem(label, probability) {
  const item = document.createElement("li");
  const percent = textElement("span", formatPercent(probability));
  percent.className = "percent";
  const bar = document.createElement("span");
  bar.className = "bar";
  bar.append(document.createElement("span"));
  bar.firstChild.style.width = `${100 * probability}%`;
  item.append(textElement("bdi", nameOf(label)), percent, bar);
  return item;
}

/** Draw the model's input. */
function drawSeen(pixels) {
  const { width, height, channels } = model;
  const image = new ImageData(width, height);
  for (let at = 0; at < width * height; at++) {
    for (let channel = 0; channel < 3; channel++) {
      image.data[4 * at + channel] = pixels[at * channels + Math.min(channel, channels - 1)];
    }
    image.data[4 * at + 3] = 255;
  }
  Object.assign(byId("seen"), { width, height, hidden: false });
  byId("seen").getContext("2d").putImageData(image, 0, 0);
  byId("size").textContent = `Input of the model: ${width} × ${height} pixels`;
}

function nameOf(label) {
  return model.classNames?.[label] ?? `class ${label}`;
}

function showMessage(text) {
  byId("message").textContent = text;
}

// ---- Pictures ---------------------------------------------------------------------------------

/** Show and classify a picture file. */
function choosePicture(blob) {
  selectMode("picture");
  const wanted = view;
  return inOrder(async () => {
    if (wanted !== view) return;
    const picture = await decodePicture(blob);
    if (wanted !== view) return;
    chosen = picture;
    URL.revokeObjectURL(byId("preview").src);
    byId("preview").src = URL.createObjectURL(blob);
    byId("preview").hidden = false;
    byId("preview").classList.toggle("small", picture.width < SMALL);
    showMessage("");
  }).then(classifyView);
}

/** Open a model, or classify a picture. `transfer` is of a drop or of the clipboard. */
function receive(transfer, nothing) {
  const isFolder = transfer.items[0]?.webkitGetAsEntry?.()?.isDirectory;
  const [file, ...others] = transfer.files;
  if (!file || isFolder) showMessage(nothing);
  else if (others.length) showMessage(`Use one file at a time, not ${others.length + 1}.`);
  else if (/\.tflite$/i.test(file.name)) changeFile(file.name, () => openFromDisk(file));
  else choosePicture(file);
}

function showSamples() {
  byId("tests").hidden = !facts.samples.length;
  for (const [at, sample] of facts.samples.entries()) {
    const button = document.createElement("button");
    button.type = "button";
    button.title = sample.className;
    const image = document.createElement("img");
    image.alt = `Test image ${at + 1}`;
    image.src = URL.createObjectURL(sampleBlob(sample));
    button.append(image, textElement("bdi", sample.className));
    button.onclick = () => choosePicture(sampleBlob(sample));
    byId("samples").append(button);
  }
}

// ---- Drawings ---------------------------------------------------------------------------------

/** Give the drawing the aspect ratio of the model's images. */
function showPad() {
  const pad = byId("pad");
  const longer = Math.max(model.width, model.height);
  const width = Math.round((PAD * model.width) / longer);
  const height = Math.round((PAD * model.height) / longer);
  if (pad.width === width && pad.height === height) return; // keep the drawing
  Object.assign(pad, { width, height });
  byId("paper").style.width = `min(100%, ${(PAD_REM * width) / PAD}rem)`;
  clearPad();
}

function clearPad() {
  const pad = byId("pad");
  const context = pad.getContext("2d", { willReadFrequently: true });
  const ground = facts.ground ?? 0;
  context.fillStyle = `rgb(${ground} ${ground} ${ground})`;
  context.fillRect(0, 0, pad.width, pad.height);
  context.strokeStyle = ground < 128 ? "#fff" : "#000";
  context.lineWidth = PEN * shorterSide();
  context.lineCap = context.lineJoin = "round";
  Object.assign(pen, { x: pad.width / 2, y: pad.height / 2, down: false, pointer: null });
  showPen();
  isDrawn = false;
}

/** Clear the drawing and its answer. */
function startAgain() {
  clearPad();
  view++;
  classifyView();
}

function shorterSide() {
  return Math.min(byId("pad").width, byId("pad").height);
}

/** Draw a line from the pen to a point. A line without length is a dot. */
function drawTo(x, y) {
  const context = byId("pad").getContext("2d");
  context.beginPath();
  context.moveTo(pen.x, pen.y);
  context.lineTo(x, y + (x === pen.x && y === pen.y ? 0.01 : 0));
  context.stroke();
  Object.assign(pen, { x, y });
  isDrawn = true;
  if (pen.isWaiting) return; // the drawing is classified with this line
  pen.isWaiting = true;
  inOrder(() => {
    pen.isWaiting = false;
  });
  classifyView();
}

/** Draw with the first pointer that is pressed, not with a palm. */
function drawWithPointer(event) {
  const pad = byId("pad");
  const box = pad.getBoundingClientRect();
  const place = ({ clientX, clientY }) => [
    ((clientX - box.left) / box.width) * pad.width,
    ((clientY - box.top) / box.height) * pad.height,
  ];
  if (event.type === "pointerdown") {
    if (!event.isPrimary || event.button !== 0) return;
    pad.setPointerCapture(event.pointerId);
    [pen.x, pen.y] = place(event);
    pen.pointer = event.pointerId;
    drawTo(pen.x, pen.y);
  } else if (event.pointerId === pen.pointer) {
    const points = event.getCoalescedEvents?.() ?? [];
    for (const point of points.length ? points : [event]) drawTo(...place(point));
  }
}

function drawWithKey(event) {
  const pad = byId("pad");
  if (event.key === "Delete" || event.key === "Backspace") startAgain();
  else if (event.key === " ") {
    pen.down = !pen.down;
    if (pen.down) drawTo(pen.x, pen.y);
    byId("pen-state").textContent = pen.down ? "Pen down" : "Pen up";
  } else if (event.key in ARROWS) {
    const [x, y] = ARROWS[event.key].map((step) => step * PEN_STEP * shorterSide());
    const next = [
      Math.min(pad.width, Math.max(0, pen.x + x)),
      Math.min(pad.height, Math.max(0, pen.y + y)),
    ];
    if (pen.down) drawTo(...next);
    else [pen.x, pen.y] = next;
  } else return;
  showPen();
  event.preventDefault(); // the page does not scroll
}

/** Show the pen of the keyboard where it is. */
function showPen() {
  byId("pen").style.left = `${(100 * pen.x) / byId("pad").width}%`;
  byId("pen").style.top = `${(100 * pen.y) / byId("pad").height}%`;
  byId("pen").classList.toggle("down", pen.down);
}

// ---- Camera -----------------------------------------------------------------------------------

async function startCamera() {
  const wanted = view;
  if (!navigator.mediaDevices) {
    showMessage("Browsers allow the camera on https only. Select Picture to choose or take one.");
    return;
  }
  let opened;
  try {
    opened = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    if (wanted !== view) return stopTracks(opened); // the user left the mode in the meantime
    stream = byId("video").srcObject = opened;
    await byId("video").play();
  } catch (error) {
    if (wanted !== view) return;
    const isDenied = error.name === "NotAllowedError";
    showMessage(isDenied ? "The browser does not allow the camera." : "There is no camera.");
    return;
  }
  opened.getTracks()[0].onended = () => showMessage("The camera stopped.");
  while (wanted === view && opened.active) {
    await classifyView();
    await new Promise(requestAnimationFrame);
  }
}

function stopCamera() {
  if (stream) stopTracks(stream);
  stream = byId("video").srcObject = null;
}

function stopTracks(ended) {
  for (const track of ended.getTracks()) track.stop();
}

// ---- Modes and events -------------------------------------------------------------------------

function mode() {
  return document.querySelector("[name=mode]:checked").value;
}

/** Change the mode, and drop answers for the mode before. */
function selectMode(name) {
  document.querySelector(`[value=${name}]`).checked = true;
  view++;
  stopCamera();
  for (const id of ["picture", "draw", "camera"]) byId(id).hidden = id !== name;
  showControls();
  showMessage("");
}

/** Show what the mode has: its last picture, the drawing or the camera. */
function changeMode() {
  selectMode(mode());
  classifyView();
  if (mode() === "camera") startCamera();
}

/** Drawing and inverting are for models of grayscale images. */
function showControls() {
  const isGray = facts.ground !== null || model.channels === 1;
  byId("draw-mode").hidden = !isGray;
  byId("invert-choice").hidden = !isGray || mode() === "draw";
  if (!isGray) byId("invert").checked = false;
}

function listen() {
  for (const radio of document.querySelectorAll("[name=mode]")) radio.onchange = changeMode;
  byId("invert").onchange = classifyView;
  byId("files").onchange = ({ target: { value, selectedOptions: [option] } }) =>
    option.file
      ? changeFile(option.file.name, () => openFromDisk(option.file))
      : changeFile(facts.files[value].name, () => openEmbedded(value));
  const choosers = { choose: "chosen", take: "taken", open: "opened" }; // {button: input}
  for (const [button, input] of Object.entries(choosers)) {
    byId(button).onclick = () => byId(input).click();
    byId(input).onchange = () => {
      const [file] = byId(input).files;
      byId(input).value = ""; // so that the same file can be chosen again
      if (!file) return;
      if (button === "open") changeFile(file.name, () => openFromDisk(file));
      else choosePicture(file);
    };
  }
  document.onpaste = ({ clipboardData }) => receive(clipboardData, "The clipboard contains no picture.");
  document.ondragover = (event) => {
    event.preventDefault();
    document.body.classList.add("dragging");
  };
  document.ondragleave = () => document.body.classList.remove("dragging");
  document.ondrop = (event) => {
    event.preventDefault();
    document.body.classList.remove("dragging");
    receive(event.dataTransfer, "Drop a picture or a .tflite file.");
  };
  const pad = byId("pad");
  byId("clear").onclick = startAgain;
  pad.onpointerdown = pad.onpointermove = drawWithPointer;
  pad.onpointerup = pad.onpointercancel = () => {
    pen.pointer = null;
  };
  pad.onkeydown = drawWithKey;
  document.onvisibilitychange = () => {
    if (mode() === "camera") selectMode("camera"); // stops it
    if (mode() === "camera" && !document.hidden) startCamera();
  };
}

// ---- Text -------------------------------------------------------------------------------------

function textElement(tag, text) {
  const element = document.createElement(tag);
  element.textContent = text;
  return element;
}

function formatPercent(probability) {
  return `${(100 * probability).toFixed(1)}%`;
}

/** Browsers round times, some to 1 ms. */
function formatTime(milliseconds) {
  if (milliseconds === 0) return "less than 1 ms";
  return `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms`;
}

function formatBytes(bytes) {
  return bytes < 1e6 ? `${Math.round(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
