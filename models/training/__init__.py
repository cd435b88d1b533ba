"""Training: recipes as data, losses, the loop, folders of images."""

from bivit.models.training.data import FolderData, TensorData
from bivit.models.training.recipe import Recipe, Stage, TrainError, load_recipe, recipes
from bivit.models.training.trainer import accuracy, deterministic, predict, train

__all__ = ["FolderData", "Recipe", "Stage", "TensorData", "TrainError", "accuracy",
           "deterministic", "load_recipe", "predict", "recipes", "train"]
