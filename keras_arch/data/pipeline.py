"""From single examples to the batches that a model sees."""

import math

import tensorflow as tf

SHUFFLE_BUFFER = 2**30  # bytes of decoded images that are shuffled together; a smaller split is shuffled whole


def resize(image, shape):
    """Bring one image to `shape` (height, width, channels): the shorter side to size, then the centre; uint8."""
    height, width, channels = shape
    image.set_shape((None, None, channels))
    size = tf.shape(image)[:2]
    if image.shape[:2] != (height, width):
        scale = tf.reduce_max(tf.cast([height, width], tf.float32) / tf.cast(size, tf.float32))
        enlarged = tf.maximum(tf.cast(tf.round(tf.cast(size, tf.float32) * scale), tf.int32), [height, width])
        image = tf.image.resize(image, enlarged, antialias=True)
        image = tf.image.resize_with_crop_or_pad(image, height, width)
        image = tf.cast(tf.round(image), tf.uint8)
    return tf.ensure_shape(image, shape)


def training_batches(dataset, recipe):
    """Shuffled, augmented batches of one epoch; another order in each.

    Returns:
        A `tf.data.Dataset` of uint8 images (batch, height, width, channels) and one-hot labels (batch, classes).
        The last, smaller batch is left out, since batch norm would take its few images for the whole population.
    """
    count = int(dataset.train.cardinality())
    examples = dataset.train.shuffle(min(count, SHUFFLE_BUFFER // math.prod(dataset.image_shape)), seed=recipe.seed)
    batches = examples.batch(recipe.batch_size, drop_remainder=count >= recipe.batch_size)
    seeds = tf.data.Dataset.random(seed=recipe.seed, rerandomize_each_iteration=True).batch(2)
    augment, classes = AUGMENT[recipe.augment], len(dataset.class_names)
    return (
        tf.data.Dataset.zip(batches, seeds)
        .map(
            lambda batch, seed: (augment(batch[0], seed), tf.one_hot(batch[1], classes)),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        .prefetch(tf.data.AUTOTUNE)
    )


def evaluation_batches(examples, classes, batch_size):
    """Batches in the order of `examples`, all of them: uint8 images and one-hot labels."""
    return examples.batch(batch_size).map(lambda images, labels: (images, tf.one_hot(labels, classes))).prefetch(1)


def random_crop(images, seed):
    """Pad a batch by an eighth of its size (4 pixels of CIFAR-10's 32) and cut each image out at a place of its own."""
    count, (height, width) = tf.shape(images)[0], images.shape[1:3]
    pad = max(height, width) // 8
    images = tf.pad(images, [[0, 0], [pad, pad], [pad, pad], [0, 0]])
    top, left = tf.unstack(tf.random.stateless_uniform((2, count, 1), seed, 0, 2 * pad + 1, tf.int32))
    images = tf.gather(images, top + tf.range(height), axis=1, batch_dims=1)
    return tf.gather(images, left + tf.range(width), axis=2, batch_dims=1)


def random_flip(images, seed):
    """Mirror half of the images left to right."""
    mirrored = tf.random.stateless_uniform((tf.shape(images)[0], 1, 1, 1), seed) < 0.5
    return tf.where(mirrored, tf.reverse(images, axis=[2]), images)


AUGMENT = {
    "none": lambda images, seed: images,
    "crop": random_crop,
    "flip_crop": lambda images, seed: random_flip(random_crop(images, seed), seed + 1),
}
