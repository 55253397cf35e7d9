// Runs a .tflite file with LiteRT.js outside the page's thread. The page sends
// {id, start: wasm}, {id, open: bytes} or {id, classify: pixels}; the answer is {id, result} or
// {id, error: sentence}.

let model = null; // {compiled, ...} of the open file

const ACTIONS = {
  async start(wasmBinary) {
    self.Module = { wasmBinary, print() {}, printErr() {} }; // it would log its version as an error
    // The page runs on the CPU. LiteRT.js would start a GPU, and warn where there is none.
    Object.defineProperty(navigator, "gpu", { value: undefined });
    console.warn = () => {};
    await LiteRT.loadLiteRt("litert.js"); // the name is not used: the code is in this file
  },

  /** An error leaves the open file open. */
  async open(bytes) {
    const description = await describeModel(bytes);
    const { height, width, channels, classNames } = description;
    const opened = { ...description, compiled: await compile(bytes) };
    try {
      await run(opened, new Uint8Array(height * width * channels).fill(128));
    } catch (error) {
      opened.compiled.delete();
      throw error;
    }
    model?.compiled.delete();
    model = opened;
    return { height, width, channels, classNames };
  },

  classify: (pixels) => run(model, pixels),
};

async function compile(bytes) {
  try {
    return await LiteRT.loadAndCompile(bytes, { accelerator: "wasm" });
  } catch (error) {
    throw new Error("LiteRT.js cannot run it. It may be damaged.", { cause: error });
  }
}

/** Returns {probabilities, milliseconds}. pixels: (height, width, channels) of 0-255. */
async function run(opened, pixels) {
  const values = toInput(pixels, opened);
  const start = performance.now();
  const input = new LiteRT.Tensor(values, opened.input.shape);
  try {
    const [output] = await opened.compiled.run([input]);
    const milliseconds = performance.now() - start;
    const probabilities = dequantize(output.toTypedArray(), opened.output);
    output.delete();
    checkProbabilities(probabilities);
    return { probabilities, milliseconds };
  } finally {
    input.delete();
  }
}

/** Called by LiteRT.js instead of the function that it imports, to start its WebAssembly code. */
async function createWasmLib(LiteRt) {
  return new LiteRt(await ModuleFactory(self.Module));
}

/** Return the values of the input for raw pixels, as keras_arch/artifacts/tflite.py does. */
function toInput(pixels, { input, mean, std, channels }) {
  if (input.type === "uint8") return pixels;
  const of = (values, at) => values[values.length === 1 ? 0 : at % channels];
  return Float32Array.from(pixels, (pixel, at) => (pixel - of(mean, at)) / of(std, at));
}

function dequantize(values, { scale, zeroPoint }) {
  if (!scale) return Float32Array.from(values);
  return Float32Array.from(values, (value) => (value - zeroPoint) * scale);
}

function checkProbabilities(values) {
  const sum = values.reduce((total, value) => total + value, 0);
  const tolerance = Math.min(0.5, 0.001 + values.length / 256); // of 8-bit probabilities
  const isInRange = values.every((value) => value >= -0.001 && value <= 1.001);
  if (!isInRange || !(Math.abs(sum - 1) <= tolerance)) {
    throw new Error("Its output is not probabilities. End the model with a softmax.");
  }
}

async function reply({ id, ...request }) {
  const [[action, argument]] = Object.entries(request);
  try {
    self.postMessage({ id, result: await ACTIONS[action](argument) });
  } catch (error) {
    self.postMessage({ id, error: error.message });
  }
}

let last = Promise.resolve(); // one request at a time, so that no file is closed while it runs
self.onmessage = ({ data }) => {
  last = last.then(() => reply(data));
};
