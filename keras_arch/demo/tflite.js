// What a .tflite file says of itself: the ends of the model, its normalization and class names.
// LiteRT.js does not read them. Field numbers are those of TensorFlow's schema.fbs and
// metadata_schema.fbs.

const TYPES = ["float32", "float16", "int32", "uint8", "int64", "string", "bool", "int16", "complex64", "int8"];
const RUN_TYPES = ["float32", "uint8"]; // LiteRT.js also has int32, which no image has
const NORMALIZATION = 1; // type of a process unit
const END_OF_ARCHIVE = 0x06054b50; // signature in a zip archive
const DEFLATED = 8; // method of compression
const DECODER = new TextDecoder("utf-8", { fatal: true });

/** A table of a FlatBuffer. */
class Table {
  constructor(view, position) {
    this.view = view;
    this.position = position;
  }

  static root(bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    return new Table(view, view.getUint32(0, true));
  }

  /** Return the position of a field, or 0 if it is absent. */
  field(number) {
    const fields = this.position - this.view.getInt32(this.position, true);
    const entry = 4 + 2 * number;
    const offset = entry < this.view.getUint16(fields, true) && this.view.getUint16(fields + entry, true);
    return offset ? this.position + offset : 0;
  }

  byte(number) {
    const at = this.field(number);
    return at ? this.view.getUint8(at) : 0;
  }

  integer(number) {
    const at = this.field(number);
    return at ? this.view.getUint32(at, true) : 0;
  }

  table(number) {
    const at = this.field(number);
    return at ? new Table(this.view, at + this.view.getUint32(at, true)) : null;
  }

  /** Return the elements of a vector. read(position) returns one of them. */
  vector(number, size, read) {
    const at = this.field(number);
    if (!at) return [];
    const start = at + this.view.getUint32(at, true);
    const count = this.view.getUint32(start, true);
    if (start + 4 + count * size > this.view.byteLength) throw new RangeError("a vector is cut");
    return Array.from({ length: count }, (_, index) => read(start + 4 + size * index));
  }

  tables(number) {
    return this.vector(number, 4, (at) => new Table(this.view, at + this.view.getUint32(at, true)));
  }

  integers(number) {
    return this.vector(number, 4, (at) => this.view.getInt32(at, true));
  }

  floats(number) {
    return this.vector(number, 4, (at) => this.view.getFloat32(at, true));
  }

  longs(number) {
    return this.vector(number, 8, (at) => Number(this.view.getBigInt64(at, true)));
  }

  bytes(number) {
    const at = this.field(number);
    if (!at) return new Uint8Array();
    const start = at + this.view.getUint32(at, true);
    const count = this.view.getUint32(start, true);
    return new Uint8Array(this.view.buffer, this.view.byteOffset + start + 4, count);
  }

  text(number) {
    return DECODER.decode(this.bytes(number));
  }
}

/**
 * Describe an image classifier.
 *
 * Returns {height, width, channels, input, output, mean, std, classNames}. input and output are
 * {shape, type, scale, zeroPoint}. classNames is null if the file has none.
 * Throws an Error whose message is a sentence for people.
 */
async function describeModel(bytes) {
  if (String.fromCharCode(...bytes.subarray(4, 8)) !== "TFL3") throw new Error("It is not a .tflite file.");
  let model;
  try {
    model = await readModel(bytes);
  } catch (error) {
    throw new Error("It is damaged or cut.", { cause: error });
  }
  const { inputs, outputs, mean, std, classNames, hasFiles } = model;
  const [input, output] = [inputs[0], outputs[0]];
  const isClassifier =
    inputs.length === 1 && outputs.length === 1 && input.shape.length === 4 &&
    output.shape.length === 2 && input.shape[0] === 1 && [1, 3].includes(input.shape[3]);
  if (!isClassifier) throw new Error("It is not an image classifier.");
  const [, height, width, channels] = input.shape;
  if (input.hasAnySize) throw new Error("It takes images of any size. Export it with one size.");
  for (const [end, { type }] of Object.entries({ input, output })) {
    if (!RUN_TYPES.includes(type)) {
      throw new Error(`Its ${end} is ${type}. LiteRT.js runs float32 and uint8 only.`);
    }
  }
  const isNormalization = (values) =>
    [1, channels].includes(values.length) && values.every(Number.isFinite);
  if (!isNormalization(mean) || !isNormalization(std) || !std.every((value) => value > 0)) {
    throw new Error("Its metadata have an invalid normalization.");
  }
  if (hasFiles && !classNames) throw new Error("Its class names are missing. It may be cut.");
  const classes = output.shape[1];
  if (classNames && classNames.length !== classes) {
    throw new Error(`It has ${classNames.length} class names for ${classes} classes.`);
  }
  return { ...model, input, output, height, width, channels };
}

async function readModel(bytes) {
  const root = Table.root(bytes);
  const graph = root.tables(2)[0];
  const tensors = graph.tables(0);
  const describe = (index) => describeTensor(tensors[index]);
  return {
    inputs: graph.integers(1).map(describe),
    outputs: graph.integers(2).map(describe),
    ...readMetadata(root),
    classNames: await readClassNames(bytes),
  };
}

function describeTensor(tensor) {
  const quantization = tensor.table(4);
  return {
    shape: tensor.integers(0),
    hasAnySize: tensor.integers(7).slice(1).includes(-1),
    type: TYPES[tensor.byte(1)] ?? `of type ${tensor.byte(1)}`,
    scale: quantization?.floats(2)[0] ?? 0, // 0: not quantized
    zeroPoint: quantization?.longs(3)[0] ?? 0,
  };
}

/**
 * Return {mean, std, hasFiles} of the metadata. The model takes (pixels - mean) / std. hasFiles is
 * whether a zip archive with class names follows the model.
 */
function readMetadata(root) {
  const entry = root.tables(6).find((one) => one.text(0) === "TFLITE_METADATA");
  if (!entry) return { mean: [0], std: [1], hasFiles: false };
  const metadata = Table.root(root.tables(4)[entry.integer(1)].bytes(0));
  const graphs = metadata.tables(3);
  const inputs = graphs.flatMap((graph) => graph.tables(2));
  const tensors = [...inputs, ...graphs.flatMap((graph) => graph.tables(3))];
  const files = [
    ...metadata.tables(6),
    ...graphs.flatMap((graph) => graph.tables(4)),
    ...tensors.flatMap((tensor) => tensor.tables(6)),
  ];
  const units = inputs.length ? inputs[0].tables(4) : [];
  const options = units.findLast((unit) => unit.byte(0) === NORMALIZATION)?.table(1);
  return {
    mean: options?.floats(0) ?? [0],
    std: options?.floats(1) ?? [1],
    hasFiles: files.length > 0,
  };
}

/** Return the lines of the text file in the zip archive that follows the model, or null. */
async function readClassNames(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = findEndOfArchive(view);
  if (end === null) return null;
  const directory = end - view.getUint32(end + 12, true);
  const shift = directory - view.getUint32(end + 16, true); // bytes before the archive
  for (let at = directory; at < end; ) {
    const [nameLength, extra, comment] = [28, 30, 32].map((field) => view.getUint16(at + field, true));
    const name = DECODER.decode(bytes.subarray(at + 46, at + 46 + nameLength));
    if (name.endsWith(".txt")) {
      const entry = shift + view.getUint32(at + 42, true);
      const start = entry + 30 + view.getUint16(entry + 26, true) + view.getUint16(entry + 28, true);
      const content = bytes.subarray(start, start + view.getUint32(at + 20, true));
      const isDeflated = view.getUint16(at + 10, true) === DEFLATED;
      return toLines(isDeflated ? await inflate(content) : content);
    }
    at += 46 + nameLength + extra + comment;
  }
  return null;
}

async function inflate(bytes) {
  const inflated = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Uint8Array(await new Response(inflated).arrayBuffer());
}

/** Return the position of the last record of a zip archive, or null. */
function findEndOfArchive(view) {
  const last = view.byteLength - 22; // a comment of up to 65,535 bytes may follow the record
  for (let at = last; at >= Math.max(0, last - 65535); at--) {
    if (view.getUint32(at, true) === END_OF_ARCHIVE) return at;
  }
  return null;
}

function toLines(bytes) {
  const lines = DECODER.decode(bytes).replace(/\n$/, "").split("\n");
  return lines.map((line) => line.replace(/\r$/, ""));
}
