"""Train a model by a recipe, or repeat a run: keras-arch train RECIPE|RUN [options]."""

import sys
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated

from keras_arch import files
from keras_arch.cli import check_command_line, parse, print_table, program, quiet, run, say
from keras_arch.options import Metavar
from keras_arch.plugins import find_functions, load_function
from keras_arch.published import is_published
from keras_arch.recipes import NOTES, RECIPES, Recipe, check_start
from keras_arch.reports.tables import describe_training, recipe_table, run_row
from keras_arch.results import read_results
from keras_arch.runs.folder import check_run_folder, default_folder, resolve_paths
from keras_arch.runs.record import find_recipe, finish_run, start_run
from keras_arch.training.devices import DeviceOptions, check_batch_size, join
from keras_arch.training.sharing import (
    check_same_command,
    check_same_state,
    first_then_others,
    share,
)


@dataclass
class Options:
    """Train a model, evaluate it on the test split and write a run directory."""

    recipe: Recipe
    data_dir: Annotated[str | None, Metavar("DIRECTORY|URL")] = None
    """Directory of prepared TFDS data sets. Default: that of TFDS."""
    output: Annotated[Path | None, Metavar("DIRECTORY")] = None
    """Run directory. Default: saved_models/<model>-<dataset>."""
    overwrite: bool = False
    """Replace an existing run directory."""
    resume: bool = False
    """Continue an interrupted run of the same command after its last complete epoch."""
    tensorboard: bool = False
    """Write TensorBoard logs into the run directory."""
    cluster: DeviceOptions = field(default_factory=DeviceOptions)


def main():
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        return print(recipe_table(program(), RECIPES, read_results(), NOTES))
    check_command_line(arguments)
    name = arguments[0]
    default = Options(*find_recipe(name))
    options = parse(Options, arguments[1:], "train", default=default, prog=f"{program()} {name}")
    recipe = resolve_paths(options.recipe)
    check_start(recipe)
    output = options.output or default_folder(recipe)
    check = partial(check_run_folder, output, recipe, options.overwrite, options.resume)
    if options.cluster.coordinator is None:
        check()
    with quiet():
        from keras_arch import (
            cost,
            fit,
            load_dataset,
            open_artifact,
            strip_auxiliary_heads,
            transfer_weights,
        )
        from keras_arch.builders import builder_of
        from keras_arch.class_names import check_class_order
        from keras_arch.data.manifest import refuse_images
        from keras_arch.data.pipeline import check_data_options
        from keras_arch.evaluation.evaluate import evaluate_run
        from keras_arch.reports.html import write_figures_and_report
        from keras_arch.training.checkpoint import recorded_precision
        from keras_arch.training.fast_copy import make_repeatable
        from keras_arch.training.precision import choose_precision
        from keras_arch.training.teacher import check_teacher, open_teacher
        from keras_arch.weights.checks import check_published
        from keras_arch.weights.files import check_source

    with join(options.cluster) as devices:
        check_batch_size(recipe.batch_size, devices.count)
        check_same_command(options.recipe, options.resume)
        if devices.is_first:
            check()
        for text in find_functions(recipe):
            load_function(text)
        builder = builder_of(recipe)
        if recipe.weights:
            check_source(recipe.weights)
        if is_published(recipe.weights):
            check_published(recipe.weights, recipe.model)
        teacher = open_teacher(recipe.teacher) if recipe.teacher else None
        refuse_images(output, recipe.dataset)
        with first_then_others():
            data = load_dataset(
                recipe.dataset, options.data_dir, recipe.image_size, **recipe.data_options
            )
        check_data_options(data, recipe)
        make_repeatable(recipe.seed)
        model = builder(input_shape=data.image_shape, classes=len(data.class_names))
        if recipe.weights:
            transfer_weights(model, recipe.weights, recipe.model, data.class_names)
        if teacher:
            check_class_order(teacher, data.class_names)
            check_teacher(teacher.model, model, recipe, data)
        sha256_of_teacher = teacher.sha256 if teacher else None
        check_same_state(data, model, sha256_of_teacher)
        with quiet():
            recorded = recorded_precision(files.partial_name(output)) if options.resume else None
            precision = choose_precision(recipe.precision, share(recorded))
        say(describe_training(recipe, model, data.sizes, precision.name, devices.count))
        chosen = replace(recipe, precision=precision.name)
        train = partial(fit, model, data, chosen, teacher=teacher.model if teacher else None)
        if not devices.is_first:
            with devices.scope:
                return train(output, options.resume)
        with files.atomic_folder(output, "run.json", options.resume, check) as unfinished:
            start_run(
                *(unfinished, recipe, precision, options.data_dir, data, devices.record),
                sha256_of_teacher,
            )
            with devices.scope:
                history = train(unfinished, options.resume, options.tensorboard)
            results, mistakes = evaluate_run(open_artifact(unfinished / "model.keras"), data)
            sha256 = files.hash_of(model.get_weights())
            metrics = finish_run(
                unfinished, history, results, cost(strip_auxiliary_heads(model)), sha256
            )
            write_figures_and_report(unfinished, mistakes)
        print_table([run_row(recipe, metrics)])
        say(f"Run saved to {output}. Open {output / 'report.html'} for a summary.")
        say(f"Export it: keras-arch export {output}")


if __name__ == "__main__":
    run(main)
