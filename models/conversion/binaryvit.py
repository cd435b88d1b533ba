"""BinaryViT to integer layers.

The residual stream of a stage has one unit; what a layer computes between its norms and its last
additions has a unit of its own, in layer after layer.
"""

import torch
from torch import nn

from bivit.models import integer
from bivit.models.binaryvit import (
    POOLINGS,
    BinaryMerge,
    CodedMerge,
    Encoder,
    OddPatchProjection,
)
from bivit.models.conversion.blocks import code_constants, odd_linear
from bivit.models.conversion.calibration import finest_unit
from bivit.models.conversion.constants import ConvertError, double, rescale_constants
from bivit.models.conversion.deit import require
from bivit.models.conversion.shifted import (
    BITS,
    absolute_softmax,
    bend,
    branches,
    folded,
    mean_of,
    normed,
    number_bits,
    parts_first,
    product,
    steepness,
    sum_of,
    weighted,
)
from bivit.models.indices import neighbours, spread
from bivit.models.integer_binaryvit import (
    IntegerBinaryLayer,
    IntegerBinaryMerge,
    IntegerBinaryViT,
    IntegerCodedMerge,
    IntegerDense,
    IntegerMean,
    IntegerShiftAttention,
)
from bivit.models.integer_vit import IntegerPatchEmbed
from bivit.models.layers import odd_weight
from bivit.models.magnitudes import magnitudes
from bivit.models.multibit import CodedLinear

__all__ = ["convert_binaryvit", "settle_binaryvit"]


def settle_binaryvit(model, calibration):
    """There is nothing to round: numbers are 16 bits throughout, and every bit is one of them."""


def convert_binaryvit(model, calibration):
    """The integer model of BinaryViT."""
    return _Converter(model, calibration).model()


def _layer_places(layer):
    """Where the numbers of each unit of a layer can be seen, and the products that become such."""
    attention, output = layer.attention["attention"], layer.attention["output"]
    places = {
        "attention": [(layer.layernorm_before, "output")],
        "context": [(attention.norm_context, "output"), (attention.rprelu_context, "input"),
                    (attention.rprelu_context, "output"), (output.rprelu, "input")],
        "after": [(layer.layernorm_after, "output"), (layer.intermediate.rprelu, "input")],
        "hidden": [(layer.intermediate.rprelu, "output"), (layer.output.rprelu, "input")]}
    for letter in "qkv":
        rprelu = attention.get_submodule(f"rprelu{letter}")
        places["attention"] += [(rprelu, "input"), (rprelu, "output")]
    clip = float(attention.att_prob_clip)
    products = {
        "attention": [steepness(attention.get_submodule(path), attention.get_submodule(norm))
                      for path, norm in (("query", "normq"), ("key", "normk"),
                                         ("value", "normv"))],
        "context": [float(folded(attention.norm_context)[0].abs().max()) * clip,
                    steepness(output.dense, output.norm)],
        "after": [steepness(layer.intermediate.dense, layer.intermediate.norm)],
        "hidden": [steepness(layer.output.dense, layer.output.norm)]}
    if attention.ratio > 1:
        places["kept"] = [(attention.rprelur, "input")]
        places["attention"].append((attention.rprelur, "output"))
        products["kept"] = [steepness(attention.reduction, attention.norm_r)]
    return places, products


class _Converter:
    """Converts the layers of one model, at the units that its calibration images ask for."""

    def __init__(self, model, calibration):
        self.source, self.config = model, model.config
        self.encoder = model.vit["encoder"]
        require(model, {"vit.embeddings.patch_embeddings": OddPatchProjection,
                        "classifier": CodedLinear})
        self.stages = [stage for stage, depth in enumerate(self.config.depths)
                       for _ in range(depth)]
        places, steepest = self._places()
        found = magnitudes(model, calibration, places)
        self.unit = {name: finest_unit(value, steepest.get(name, ())) for name, value in
                     found.items()}

    def _places(self):
        """The same for all of the model: by unit, where it is seen and the steepest scales."""
        places, steepest = {"logits": [(self.source, "output")]}, {}
        for stage in range(len(self.config.depths)):
            places[f"stage {stage}"] = []
        for index, layer in enumerate(self.encoder.layer):
            places[f"stage {self.stages[index]}"] += [
                (layer, "input"), (layer.layernorm_after, "input"), (layer, "output")]
            own, products = _layer_places(layer)
            places |= {f"layer {index} {name}": value for name, value in own.items()}
            steepest |= {f"layer {index} {name}": value for name, value in products.items()}
        for stage in range(1, len(self.config.depths)):
            merge = self.encoder.get_submodule(f"patch_embed{stage}")
            places[f"stage {stage}"] += [(merge, "output")]
            if isinstance(merge, BinaryMerge):
                places[f"merge {stage}"] = [(merge.norm0, "output"), (merge.rprelu, "input")]
                places[f"stage {stage}"].append((merge.rprelu, "output"))
                steepest[f"merge {stage}"] = [steepness(merge.proj, merge.norm)]
            else:
                places[f"stage {stage}"].append((merge.norm, "output"))
        return places, steepest

    def model(self):
        """All of it."""
        layers = [self.layer(layer, index) for index, layer in enumerate(self.encoder.layer)]
        merges = [self.merge(stage) for stage in range(1, len(self.config.depths))]
        head = self.source.classifier
        linear, logits = odd_linear(head.weight, head.bias, float(head.step), self.unit["logits"],
                                    "classifier")
        return IntegerBinaryViT(
            config=self.config, embeddings=self.embeddings(),
            encoder=Encoder(self.config.depths, layers, merges),
            layernorm=self.mean(), classifier=linear, logits=logits)

    def embeddings(self):
        """Patches, the BatchNorm in the product's scale, and positions."""
        name, source = "vit.embeddings.patch_embeddings", self.source.vit["embeddings"]
        unit, proj = self.unit["stage 0"], source.patch_embeddings.proj
        odd, scale = odd_weight(double(proj.weight).flatten(1),
                                source.patch_embeddings.weight_bits)
        gain, offset = folded(source.norm)
        constants = rescale_constants(scale[:, 0] / 255 * gain * unit,
                                      (double(proj.bias) * gain + offset) * unit, name)
        return IntegerPatchEmbed(
            patches=integer.Patchify(patch_size=self.config.patch_size),
            proj=integer.PlaneLinear(weight=odd.to(torch.int64)),
            embed=integer.Embed(**constants, table=self.positions(source, unit), prefix=0,
                                bits=BITS))

    @staticmethod
    def positions(source, unit):
        """Position embeddings in whole numbers."""
        table = torch.round(double(source.position_embeddings)[0] * unit)
        return table.clamp(-2**15, 2**15 - 1).to(torch.int64)

    def layer(self, layer, index):
        """One transformer layer."""
        name, stage = f"vit.encoder.layer.{index}", self.stages[index]
        side, stream = self.config.sides[stage], self.unit[f"stage {stage}"]
        own = f"layer {index} "
        unit = {key.removeprefix(own): value for key, value in self.unit.items()
                if key.startswith(own)}
        parts = {
            "layernorm_before": normed(layer.layernorm_before, side**2, stream, unit["attention"],
                                       f"{name}.layernorm_before"),
            "attention": nn.ModuleDict({
                "attention": self.attention(layer.attention["attention"], side, unit,
                                            f"{name}.attention.attention"),
                "output": self.dense(layer.attention["output"], unit["context"], stream,
                                     f"{name}.attention.output")}),
            "layernorm_after": normed(layer.layernorm_after, side**2, stream, unit["after"],
                                      f"{name}.layernorm_after"),
            "intermediate": self.dense(layer.intermediate, unit["after"], unit["hidden"],
                                       f"{name}.intermediate"),
            "output": self.dense(layer.output, unit["hidden"], stream, f"{name}.output")}
        if layer.branches:
            affines = {key: getattr(layer, f"layerscale_{key}") for key in POOLINGS}
            parts["branches"] = branches(affines, side, unit["after"], stream,
                                         f"{name}.layerscale")
        return IntegerBinaryLayer(**parts)

    def attention(self, source, side, units, name):
        """Attention up to its RPReLU."""
        channels, ratio, unit = len(source.moveq), source.ratio, units["attention"]
        parts = {}

        def line(path, norm, rprelu, move, unit, out_unit):
            parts[f"{path}_bits"] = number_bits(move, unit)
            parts[path], parts[norm] = product(
                source.get_submodule(path), source.get_submodule(norm), unit, f"{name}.{path}")
            parts[rprelu] = bend(source.get_submodule(rprelu), unit, out_unit, f"{name}.{rprelu}")

        if ratio > 1:
            kept = units["kept"]
            parts["pool"] = mean_of(neighbours(side, (ratio, ratio), ratio), channels,
                                    f"{name}.pool", kept / unit)
            line("reduction", "norm_r", "rprelur", source.mover, kept, unit)
        for letter, path in zip("qkv", ("query", "key", "value"), strict=True):
            line(path, f"norm{letter}", f"rprelu{letter}", getattr(source, f"move{letter}"), unit,
                 unit)
            parts[f"{letter}_bits"] = number_bits(getattr(source, f"move{letter}2"), unit)
        places, context = spread(side // ratio, ratio), units["context"]
        gain, offset = folded(source.norm_context)
        constants = rescale_constants(gain * double(source.att_prob_clip) * context,
                                      offset * context, f"{name}.norm_context")
        return IntegerShiftAttention(
            **parts, scores=integer.Scores(num_heads=source.num_heads),
            softmax=absolute_softmax(source.att_prob_clip, source.scale, source.num_heads, name),
            attend=integer.Attend(),
            residual=sum_of([torch.arange(side**2), places, places], channels,
                            f"{name}.residual", context / unit),
            norm_context=integer.Rescale(**constants, bits=BITS),
            rprelu_context=bend(source.rprelu_context, context, context,
                                f"{name}.rprelu_context"))

    def dense(self, source, unit, out_unit, name):
        """Product, norm, residual and RPReLU."""
        dim, out_dim = source.dims
        parts = {"bits": number_bits(source.move, unit)}
        parts["dense"], parts["norm"] = product(source.dense, source.norm, unit, f"{name}.dense")
        if out_dim > dim:
            parts["residual"] = integer.TileChannels(copies=out_dim // dim)
        elif out_dim < dim:
            group = dim // out_dim
            parts["residual"] = integer.FoldChannels(group=group, bits=BITS, **rescale_constants(
                torch.full((out_dim,), 1 / group, dtype=torch.float64),
                torch.zeros(out_dim, dtype=torch.float64), f"{name}.residual"))
        parts["rprelu"] = bend(source.rprelu, unit, out_unit, f"{name}.rprelu",
                               getattr(source, "layerscale", None))
        return IntegerDense(**parts)

    def merge(self, stage):
        """2x2 tokens to one, from the unit of one stage to that of the next."""
        name = f"vit.encoder.patch_embed{stage}"
        source = self.source.get_submodule(name)
        side = self.config.sides[stage - 1]
        squares = neighbours(side, (2, 2), 2)
        before, after = (self.unit[f"stage {number}"] for number in (stage - 1, stage))
        common = {"gather": integer.Gather(index=squares, fill=0),
                  "positions": integer.AddTable(table=self.positions(source, after), bits=BITS)}
        if isinstance(source, BinaryMerge):
            unit, channels = self.unit[f"merge {stage}"], self.config.embed_dims[stage - 1]
            proj, norm = product(source.proj, source.norm, unit, f"{name}.proj")
            return IntegerBinaryMerge(
                **common, norm0=normed(source.norm0, side**2, before, unit, f"{name}.norm0"),
                bits=number_bits(source.move, unit), proj=proj, norm=norm,
                mean=mean_of(squares, channels, f"{name}.mean"),
                tile=integer.TileChannels(copies=2),
                rprelu=bend(source.rprelu, unit, after, f"{name}.rprelu"))
        if not isinstance(source, CodedMerge):
            raise ConvertError(f"layer {name}: {type(source).__name__} has no integer form; train "
                               "it as CodedMerge")
        step = float(source.proj.step)
        gain, offset = folded(source.norm0)
        codes = integer.Codes(**code_constants(gain / before, offset, step, f"{name}.norm0"))
        odd, scale = odd_weight(double(source.proj.weight).flatten(1))
        weight = parts_first(odd.reshape(source.proj.weight.shape)).to(torch.int64)
        gain, offset = folded(source.norm)
        constants = rescale_constants(scale[:, 0] * step * gain * after, offset * after,
                                      f"{name}.proj")
        return IntegerCodedMerge(**common, norm0=codes, proj=integer.PlaneLinear(weight=weight),
                                 norm=integer.Rescale(**constants, bits=BITS))

    def mean(self):
        """Codes of the normalised mean of all tokens, or of the first one."""
        name, last = "vit.layernorm", len(self.config.depths) - 1
        tokens = self.config.sides[last]**2 if self.config.average_head else 1
        step = float(self.source.classifier.step)
        unit = finest_unit(255 * step)
        gain, offset = folded(self.source.vit["layernorm"])
        mean = weighted(torch.arange(tokens)[None], [0] * tokens, [0],
                        gain[None] * (unit / self.unit[f"stage {last}"] / tokens), offset * unit,
                        name)
        codes = code_constants(torch.full_like(gain, 1 / unit), torch.zeros_like(gain), step, name)
        return IntegerMean(mean=mean, codes=integer.Codes(**codes))
