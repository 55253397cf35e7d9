// Pixels of a picture by the rules of keras_arch/images/read.py: upright, transparent pixels on
// white, gray before resizing, the largest centered box, Pillow's antialiased bilinear filter.

const FRACTION_BITS = 22; // of Pillow's filter weights

/**
 * Decode a picture. Returns {width, height, rgb}: 3 bytes a pixel, upright, on white.
 *
 * Throws an Error whose message is a sentence for people.
 */
async function decodePicture(blob) {
  const options = {
    imageOrientation: "from-image",
    colorSpaceConversion: "none", // Pillow ignores color profiles
    premultiplyAlpha: "none", // the canvas rounds as Pillow does, decoders do not
  };
  const bitmap = await createImageBitmap(blob, options).catch(() => {
    throw new Error(`${blob.name ?? "The file"} cannot be decoded as a picture by this browser.`);
  });
  const picture = readPicture(bitmap, bitmap.width, bitmap.height);
  bitmap.close();
  return picture;
}

/** Return {width, height, rgb} of an image, a video frame or a canvas, on white. */
function readPicture(source, width, height) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  // A canvas beyond the limits of the browser stays empty, without an error.
  if (context.getImageData(width - 1, height - 1, 1, 1).data[0] !== 255) {
    throw new Error(`The picture is too large for this browser: ${width} × ${height} pixels.`);
  }
  context.drawImage(source, 0, 0);
  const rgba = context.getImageData(0, 0, width, height).data;
  const rgb = new Uint8Array(3 * width * height);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    for (let channel = 0; channel < 3; channel++) rgb[to++] = rgba[from + channel];
  }
  return { width, height, rgb };
}

/**
 * Return the pixels that a model takes.
 *
 * picture: {width, height, rgb}. Returns Uint8Array (height, width, channels) of 0-255.
 */
function pixelsFor(picture, { height, width, channels }) {
  const source = { ...picture, channels: 3, data: picture.rgb };
  const colors = channels === 1 ? toGray(source) : source;
  return resize(colors, centerBox(picture, { width, height }), width, height).data;
}

/** ITU-R 601 luma, in Pillow's integer arithmetic. */
function toGray({ width, height, data: rgb }) {
  const data = new Uint8Array(width * height);
  for (let at = 0, from = 0; at < data.length; at++, from += 3) {
    data[at] = (rgb[from] * 19595 + rgb[from + 1] * 38470 + rgb[from + 2] * 7471 + 0x8000) >> 16;
  }
  return { width, height, channels: 1, data };
}

/** Return the largest centered box with the aspect ratio of `target`. */
function centerBox({ width, height }, target) {
  const boxWidth = Math.min(width, roundHalfToEven((height * target.width) / target.height));
  const boxHeight = Math.min(height, roundHalfToEven((width * target.height) / target.width));
  const left = Math.floor((width - boxWidth) / 2);
  const top = Math.floor((height - boxHeight) / 2);
  return { left, top, width: boxWidth, height: boxHeight };
}

/** Python's round. */
function roundHalfToEven(value) {
  const floor = Math.floor(value);
  if (value - floor !== 0.5) return Math.round(value);
  return floor % 2 ? floor + 1 : floor;
}

/** Resize a box of an image. The filter reads beyond the box, as Pillow's does. */
function resize(image, box, width, height) {
  const columns = filterWeights(image.width, box.left, box.width, width);
  const rows = filterWeights(image.height, box.top, box.height, height);
  const cutRows = image.height - height;
  // Pillow 13 resizes the rows first if that is much less work. The rounding differs by 1.
  if (cutRows > 0 && cutRows > 2 * (image.width - width)) {
    return resizeColumns(resizeRows(image, rows), columns);
  }
  return resizeRows(resizeColumns(image, columns), rows);
}

/** Return {first, weights} for each output pixel: Pillow's triangle filter in integers. */
function filterWeights(inputSize, start, length, outputSize) {
  const scale = length / outputSize;
  const support = Math.max(scale, 1);
  return Array.from({ length: outputSize }, (_, at) => {
    const center = start + (at + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support + 0.5));
    const end = Math.min(inputSize, Math.trunc(center + support + 0.5));
    const raw = [];
    for (let from = first; from < end; from++) {
      raw.push(Math.max(0, 1 - Math.abs((from - center + 0.5) * (1 / support))));
    }
    const sum = raw.reduce((total, weight) => total + weight, 0);
    const unit = 1 << FRACTION_BITS;
    return { first, weights: raw.map((weight) => Math.trunc((weight / sum) * unit + 0.5)) };
  });
}

function resizeColumns({ width, height, channels, data }, columns) {
  const resized = new Uint8Array(columns.length * height * channels);
  let to = 0;
  for (let row = 0; row < height; row++) {
    for (const { first, weights } of columns) {
      const start = (row * width + first) * channels;
      for (let channel = 0; channel < channels; channel++) {
        resized[to++] = weightedSum(data, start + channel, channels, weights);
      }
    }
  }
  return { width: columns.length, height, channels, data: resized };
}

function resizeRows({ width, channels, data }, rows) {
  const stride = width * channels;
  const resized = new Uint8Array(stride * rows.length);
  let to = 0;
  for (const { first, weights } of rows) {
    for (let at = 0; at < stride; at++) {
      resized[to++] = weightedSum(data, first * stride + at, stride, weights);
    }
  }
  return { width, height: rows.length, channels, data: resized };
}

function weightedSum(data, start, step, weights) {
  let sum = 1 << (FRACTION_BITS - 1);
  for (let at = 0, from = start; at < weights.length; at++, from += step) {
    sum += data[from] * weights[at];
  }
  return Math.min(255, sum >> FRACTION_BITS);
}
