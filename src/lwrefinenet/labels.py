"""Class names and palettes: what the numbers in a mask mean, and the colours in which they are shown."""

from dataclasses import dataclass

Colour = tuple[int, int, int]


def voc_palette(num_classes: int) -> tuple[Colour, ...]:
    """The PASCAL VOC palette: the bits of a class index, dealt in turn to red, green and blue from the highest bit down."""
    return tuple((_channel(index, 0), _channel(index, 1), _channel(index, 2)) for index in range(num_classes))


def _channel(index: int, offset: int) -> int:
    return sum((index >> (3 * bit + offset) & 1) << (7 - bit) for bit in range(3))


@dataclass(frozen=True)
class LabelSet:
    """The classes of a data set, in the order of their indices.

    palette: one RGB colour (0-255) per class.  ignore_index: the mask value that counts nowhere (void, unlabelled).
    """

    name: str
    class_names: tuple[str, ...]
    palette: tuple[Colour, ...]
    ignore_index: int = 255

    def __post_init__(self) -> None:
        if not 1 <= len(self.class_names) <= 255:
            raise ValueError(
                f"label set {self.name!r} has {len(self.class_names)} classes; a uint8 mask holds 1 to 255."
            )
        if len(self.palette) != len(self.class_names):
            raise ValueError(
                f"label set {self.name!r} has {len(self.class_names)} classes but {len(self.palette)} palette colours."
            )
        if any(not 0 <= channel <= 255 for colour in self.palette for channel in colour):
            raise ValueError(f"label set {self.name!r}: palette colours are three numbers of 0-255 each.")
        if not 0 <= self.ignore_index <= 255:
            raise ValueError(
                f"label set {self.name!r}: ignore index {self.ignore_index} does not fit a uint8 mask (0-255)."
            )
        if self.ignore_index < len(self.class_names):
            raise ValueError(
                f"label set {self.name!r}: ignore index {self.ignore_index} is also a class (0-{len(self.class_names) - 1})."
            )

    def __len__(self) -> int:
        return len(self.class_names)


def _with_voc_palette(name: str, class_names: str) -> LabelSet:
    names = tuple(class_names.split(", "))
    return LabelSet(name, names, voc_palette(len(names)))


def _with_own_palette(name: str, colours: dict[str, Colour]) -> LabelSet:
    return LabelSet(name, tuple(colours), tuple(colours.values()))


VOC = _with_voc_palette(
    "voc",
    "background, aeroplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, diningtable, dog, horse, motorbike, "
    "person, pottedplant, sheep, sofa, train, tvmonitor",
)

PERSON_PART = _with_voc_palette(
    "person_part", "background, head, torso, upper arms, lower arms, upper legs, lower legs"
)

# The order of the published checkpoints: VOC's classes first. It is not the alphabetical order of other toolkits.
CONTEXT = _with_voc_palette(
    "context",
    "background, aeroplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, table, dog, horse, motorbike, person, "
    "pottedplant, sheep, sofa, train, tvmonitor, bag, bed, bench, book, building, cabinet, ceiling, cloth, computer, cup, "
    "door, fence, floor, flower, food, grass, ground, keyboard, light, mountain, mouse, curtain, platform, sign, plate, "
    "road, rock, shelves, sidewalk, sky, snow, bedclothes, track, tree, truck, wall, water, window, wood",
)

CONTEXT_59 = LabelSet("context59", CONTEXT.class_names[1:], CONTEXT.palette[1:])  # without background

NYU = _with_voc_palette(
    "nyu",
    "wall, floor, cabinet, bed, chair, sofa, table, door, window, bookshelf, picture, counter, blinds, desk, shelves, "
    "curtain, dresser, pillow, mirror, floor mat, clothes, ceiling, books, refrigerator, television, paper, towel, "
    "shower curtain, box, whiteboard, person, night stand, toilet, sink, lamp, bathtub, bag, otherstructure, "
    "otherfurniture, otherprop",
)

CAMVID = _with_own_palette(
    "camvid",
    {
        "sky": (128, 128, 128),
        "building": (128, 0, 0),
        "pole": (192, 192, 128),
        "road": (128, 64, 128),
        "pavement": (60, 40, 222),
        "tree": (128, 128, 0),
        "sign symbol": (192, 128, 128),
        "fence": (64, 64, 128),
        "car": (64, 0, 128),
        "pedestrian": (64, 64, 0),
        "bicyclist": (0, 128, 192),
    },
)

CITYSCAPES = _with_own_palette(
    "cityscapes",
    {
        "road": (128, 64, 128),
        "sidewalk": (244, 35, 232),
        "building": (70, 70, 70),
        "wall": (102, 102, 156),
        "fence": (190, 153, 153),
        "pole": (153, 153, 153),
        "traffic light": (250, 170, 30),
        "traffic sign": (220, 220, 0),
        "vegetation": (107, 142, 35),
        "terrain": (152, 251, 152),
        "sky": (70, 130, 180),
        "person": (220, 20, 60),
        "rider": (255, 0, 0),
        "car": (0, 0, 142),
        "truck": (0, 0, 70),
        "bus": (0, 60, 100),
        "train": (0, 80, 100),
        "motorcycle": (0, 0, 230),
        "bicycle": (119, 11, 32),
    },
)

KITTI = _with_own_palette(
    "kitti",
    {
        "sky": (128, 128, 128),
        "building": (128, 0, 0),
        "road": (128, 64, 128),
        "sidewalk": (0, 0, 192),
        "vegetation": (128, 128, 0),
        "vehicle": (64, 0, 128),
    },
)

LABEL_SETS: dict[str, LabelSet] = {
    labels.name: labels for labels in (VOC, PERSON_PART, CONTEXT, CONTEXT_59, NYU, CAMVID, CITYSCAPES, KITTI)
}
