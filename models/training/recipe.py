"""Recipes: which network is trained through which stages, read from TOML files.

The recipes that come with the package lie in ``models/recipes``; ``docs/training.md`` explains
their keys.
"""

import dataclasses
import tomllib
from pathlib import Path

from bivit.compiler.ir.errors import UserError
from bivit.models.pixels import PIXELS
from bivit.models.registry import Network, network, networks

__all__ = ["AUGMENTATIONS", "OPTIMISERS", "Recipe", "Stage", "TrainError", "ZERO_POINTS",
           "load_recipe", "recipes", "stage_network"]

FOLDER = Path(__file__).parents[1] / "recipes"
OPTIMISERS = ("adam", "adamw", "lamb")
AUGMENTATIONS = ("none", "affine", "crop")
ZERO_POINTS = ("learned", "held")
_RANGES = {"epochs": (1, 100_000), "batch": (1, 1_000_000), "warm_up": (0, 100_000),
           "learning_rate": (1e-12, 1e3), "min_learning_rate": (0, 1e3),
           "weight_decay": (0, 1e3), "distil": (0, 1), "ranking": (0, 1e6),
           "temperature": (1e-3, 1e3), "average": (0, 0.999999)}
_CHOICES = {"optimiser": OPTIMISERS, "zero_points": ZERO_POINTS, "augment": AUGMENTATIONS,
            "pixels": ("plain", *PIXELS)}


class TrainError(UserError):
    """Training that cannot start; the message says what to change."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of training.

    Parameters
    ----------
    name : str
        What progress calls it.
    network : str
        Network of the registry, if it is not the recipe's: a teacher of another kind.
    layers : tuple of str, optional
        Which of the method's layers are in force (``attention``, ``mlp``, ...); the others are
        the float network's. All of them if None, none of them for a float teacher.
    eight_bits : bool
        First and last layer in 8 bits, as the integer form needs them.
    optimiser : str
        One of :data:`OPTIMISERS`.
    min_learning_rate : float
        Where the cosine ends.
    warm_up : int
        Epochs of linear warm-up before the cosine.
    distil : float
        Weight of the distance to the teacher's logits; the rest is cross entropy.
    ranking : float
        Weight of the distance between the orders of the attention, Bi-ViT's lambda.
    temperature : float
        Softens both distributions of the distance.
    average : float
        Decay of the average of the parameters, the result of the stage; 0 for none.
    zero_points : str
        Of Bi-ViT's attention: ``learned``, or ``held``: -1 of the attention weights and 0 of
        queries, keys and values.
    """

    name: str
    epochs: int
    learning_rate: float
    network: str = ""
    layers: tuple[str, ...] | None = None
    eight_bits: bool = False
    optimiser: str = "adamw"
    min_learning_rate: float = 0.0
    weight_decay: float = 0.0
    batch: int = 64
    warm_up: int = 0
    distil: float = 0.0
    ranking: float = 0.0
    temperature: float = 1.0
    average: float = 0.0
    zero_points: str = "learned"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained.

    A stage begins with the parameters of the last stage of the same network.

    Parameters
    ----------
    name, about : str
        The file's name and one sentence.
    network : str
        Network of the registry.
    teacher : str
        Network whose trained parameters are given from outside; empty if the first stage is the
        teacher of the later ones.
    pretrained : bool
        The first stage begins with the teacher's parameters.
    augment : str
        One of :data:`AUGMENTATIONS`: small affine maps for digits, random crops and flips.
    pixels : str
        Colours that random parameters of the first layer are drawn for: ``plain``, or a key of
        :data:`bivit.models.pixels.PIXELS`.
    """

    name: str
    network: str
    stages: tuple[Stage, ...]
    about: str = ""
    teacher: str = ""
    pretrained: bool = False
    augment: str = "none"
    pixels: str = "plain"

    @property
    def epochs(self) -> int:
        """Epochs of all stages."""
        return sum(stage.epochs for stage in self.stages)


def stage_network(recipe: Recipe, stage: Stage, own: Network | None = None) -> Network:
    """The network of one stage, with the layers in force.

    Parameters
    ----------
    own : Network, optional
        Instead of the recipe's. A stage's other network takes its number of classes.
    """
    entry = own or network(recipe.network)
    if stage.network:
        classes = entry.config.num_classes
        entry = network(stage.network)
        entry = dataclasses.replace(
            entry, config=dataclasses.replace(entry.config, num_classes=classes))
    if stage.layers is None:
        return entry
    return dataclasses.replace(entry, layers={name: entry.layers[name] for name in stage.layers})


def recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_recipe(source) -> Recipe:
    """The recipe of a name, or of a .toml file.

    Raises
    ------
    TrainError
        In one sentence: the file, the stage and the key.
    """
    path = Path(source)
    if path.suffix != ".toml":
        if str(source) not in recipes():
            raise TrainError(f"there is no recipe {source}; give a .toml file or one of "
                             f"{', '.join(recipes())}")
        path = FOLDER / f"{source}.toml"
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TrainError(f"the recipe {path} does not exist") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TrainError(f"{path} is not a TOML file: {error}") from None
    stages = content.pop("stages", None)
    if not isinstance(stages, list) or not stages or not all(
            isinstance(stage, dict) for stage in stages):
        raise TrainError(f"{path}: a recipe needs at least one table [[stages]]")
    stages = tuple(_fields(Stage, stage, f"{path}, stage {index + 1}")
                   for index, stage in enumerate(stages))
    recipe = _fields(Recipe, content | {"name": path.stem, "stages": stages}, str(path))
    _check(recipe, path)
    return recipe


def _fields(kind, content, where):
    """A dataclass of a TOML table, whose keys, types and ranges are checked."""
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for key in content:
        if key not in fields:
            raise TrainError(f"{where}: there is no key {key}; keys are {', '.join(fields)}")
    for key, field in fields.items():
        if key not in content and field.default is dataclasses.MISSING:
            raise TrainError(f"{where}: the key {key} is missing")
    values = {}
    for key, value in content.items():
        wanted = fields[key].type
        if wanted is float and type(value) is int:
            value = float(value)
        if key == "layers":
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                raise TrainError(f"{where}: layers must be a list of names")
            value = tuple(value)
        elif isinstance(wanted, type) and type(value) is not wanted:
            raise TrainError(f"{where}: {key} is {value!r}, but must be of type "
                             f"{wanted.__name__}")
        low, high = _RANGES.get(key, (None, None))
        if low is not None and not low <= value <= high:
            raise TrainError(f"{where}: {key} is {value:g}, but must lie between {low:g} and "
                             f"{high:g}")
        if key in _CHOICES and value not in _CHOICES[key]:
            raise TrainError(f"{where}: {key} is {value!r}, but must be one of "
                             f"{', '.join(_CHOICES[key])}")
        values[key] = value
    return kind(**values)


def _check(recipe, path):
    """What the keys of a recipe demand of each other."""
    for name in (recipe.network, recipe.teacher, *(stage.network for stage in recipe.stages)):
        if name and name not in networks():
            raise TrainError(f"{path}: there is no network {name}; `bivit models` lists them")
    if recipe.pretrained and not recipe.teacher:
        raise TrainError(f"{path}: pretrained needs a teacher, whose parameters it takes")
    if recipe.stages[-1].network not in ("", recipe.network):
        raise TrainError(f"{path}: the last stage must train the recipe's network "
                         f"{recipe.network}, not {recipe.stages[-1].network}")
    for index, stage in enumerate(recipe.stages):
        where = f"{path}, stage {index + 1}"
        known = network(stage.network or recipe.network).layers
        for name in stage.layers or ():
            if name not in known:
                raise TrainError(f"{where}: {stage.network or recipe.network} has no layers "
                                 f"{name}; it has {', '.join(known) or 'none to choose'}")
        if index == 0 and not recipe.teacher and (stage.distil or stage.ranking):
            raise TrainError(f"{where}: distil and ranking need a teacher; name one, or make the "
                             "first stage the teacher with distil and ranking 0")
        if stage.warm_up >= stage.epochs and stage.epochs > 1:
            raise TrainError(f"{where}: warm_up must be shorter than the {stage.epochs} epochs")
