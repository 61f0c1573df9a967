"""`scratchgan recipes`: what can be trained, and what it is made of."""

import inspect
from math import prod

from scratchgan.cli.settings import about, by_option
from scratchgan.schedules import in_words
from scratchgan.settings import option

EXAMPLES = """\
examples:
  scratchgan recipes            all, a line each
  scratchgan recipes mlp        its networks layer by layer, its schedule and settings
"""
BATCH = 2  # of the step that tells the shapes


def add(commands):
    parser = commands.add_parser("recipes", help="what can be trained: scratchgan recipes mlp",
                                 description="List the recipes with their sources, or describe one.", epilog=EXAMPLES)
    parser.set_defaults(run=recipes)
    parser.add_argument("name", metavar="NAME", nargs="?", help="the recipe to describe (default: all, a line each)")


def recipes(options):
    from scratchgan import recipes as known
    if options.name:
        print("\n".join(described(known.get(options.name))))
        return
    rows = [known.get(name) for name in known.names()]
    widths = [max(len(getattr(recipe, field)) for recipe in rows) for field in ("name", "summary")]
    for recipe in rows:
        print(f"{recipe.name:{widths[0]}}  {recipe.summary:{widths[1]}}  source: {recipe.source}")


def described(recipe):
    """Lines."""
    system = recipe.build()
    yield f"{recipe.name}: {recipe.summary}"
    yield f"source: {recipe.source}"
    shapes = shapes_of(system)
    for owner, network in system.networks.items():
        if (owner, "input") not in shapes:
            continue  # one that a step does not run, such as a moving average
        yield ""
        rows = [("input", shapes.get((owner, "input"), ()), 0)]
        rows += [(f"{prefix[:-1]} {layer!r}", shapes.get((owner, prefix), ()), size(layer))
                 for prefix, layer in network.named_layers() if not is_container(layer)]
        yield from table(owner, rows)
    yield ""
    for what, words in system.about().items():
        yield f"{what}: {words}"
    for name, optimizer in system.optimizers.items():
        yield f"optimizer of {name}: {optimizer_in_words(optimizer)}"
    length = (f"{recipe.epochs} epochs, at least {recipe.min_steps:,} steps" if recipe.steps is None
              else f"{recipe.steps:,} steps")
    yield (f"schedule: {length}; batches of {recipe.batch_size} examples {'x'.join(map(str, system.sample_shape))}"
           + ("" if recipe.data == "auto" else f" of {recipe.data}"))
    yield "settings:"
    options = [(f"{option(name)} {settings[0].kind.metavar}".rstrip(), name, settings)
               for name, settings in by_option(recipe).items()]
    width = max(len(text) for text, _, _ in options)
    for text, name, settings in options:
        told = about(settings[0]) if settings[0].name == name else "sets " + ", ".join(
            option(each.name) for each in settings)
        yield f"  {text:{width}}  {told}"


def shapes_of(system):
    """{(network, prefix of a layer): shape of one output}, and (network, "input"), as a step has them."""
    from scratchgan.profiling import labels_for, random_examples, things_of, watched
    shapes = {}

    def around(key, thing, method, call, *arguments, **named):
        result = call(*arguments, **named)
        if method == "forward":
            if key[1] == "":
                x = arguments[0][0] if isinstance(arguments[0], tuple) else arguments[0]  # without its labels
                shapes.setdefault((key[0], "input"), x.shape[1:])
            shapes.setdefault(key, result.shape[1:])
        return result
    with watched(things_of(system), around):
        examples = random_examples(system, BATCH)
        for step in system.phases:
            system.load_state_dict({**system.state_dict(), "steps": step})
            system.step(examples, labels_for(system, examples))
    return shapes


def size(layer):
    return sum(prod(value.shape) for value in layer.params.values())


def is_container(layer):
    """Whether what there is to tell of a layer is told of the layers in it."""
    return bool(layer.layers) and not layer.params


def table(owner, rows):
    """A line for each layer: what it is, the shape of its output, how many parameters it has."""
    width = max(len(name) for name, _, _ in rows) + 2
    yield f"{owner:{width}}  {'output':>12}  {'parameters':>12}"
    for name, shape, count in rows:
        yield f"  {name:{width - 2}}  {'x'.join(map(str, shape)):>12}  {count or '':>12,}" if count else \
              f"  {name:{width - 2}}  {'x'.join(map(str, shape)):>12}"
    yield f"{'':{width}}  {'in all':>12}  {sum(count for _, _, count in rows):>12,}"


def optimizer_in_words(optimizer):
    """Its class and what it was made with; of a schedule, its first and its last value."""
    names = [name for name in inspect.signature(type(optimizer)).parameters if name != "network"]
    values = {name: getattr(optimizer, name) for name in names if hasattr(optimizer, name)}
    values |= {name: in_words(schedule) for name, schedule in optimizer.schedules.items() if callable(schedule)
               and name in values}
    values = [f"{name}={value}" for name, value in values.items()]
    return f"{type(optimizer).__name__}({', '.join(values)})"
