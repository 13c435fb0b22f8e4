"""Two 48x48 thumbnails: do they show the same shot, and how does one lie on the other?

ECC (Evangelidis and Psarakis 2008, 'Parametric Image Alignment Using Enhanced Correlation Coefficient Maximization',
IEEE TPAMI 30) fits an affine map, at half the resolution and then at the whole. Then the fine details must agree: faces
of two people align well, but their wrinkles and hair do not.

`docs/data-trust.md` has the figures by which the thresholds were chosen.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data.pictures import SIDE

Floats = NDArray[np.float32]
Map = NDArray[np.float64]  # (3, 3), from pixels (x, y, 1) of one thumbnail to pixels of another

# Set by looking at pairs: of FER-2013's PublicTest and Training, and all that an earlier rule passed among 8,794
# photographs of faces and things. Correlation of the details that is enough by itself; that of another frame of one
# scene; that of a noisy copy.
SURE, DETAILS, NOISY = 0.92, 0.88, 0.80
_COARSE = 0.78  # correlation at half the resolution that is needed; that saves three quarters of the work
_LEAST = 0.75  # at the whole
_TEXTURE = 4.0  # grey levels of deviation that make a block worth comparing
_TEXTURED = 5  # so many of the 16 blocks are needed
_OVERLAP = 0.35  # share of a picture that must lie on the other
_SQUEEZED = 1.6  # times as much one way as the other: a crop of another shape, squeezed into the square

FLIP = np.array([[-1, 0, SIDE - 1], [0, 1, 0], [0, 0, 1]], np.float64)
# From pixels of a halved thumbnail to those of the whole.
_HALVED = np.array([[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1]], np.float64)


def evened(
    thumbnails: NDArray[np.uint8] | Floats, reach: float = 6.0, window: float = 6.0, floor: float = 4.0
) -> Floats:
    """Return thumbnails, (n, 48, 48) float32, without slow changes of brightness and with even local contrast."""
    found = np.empty(thumbnails.shape, np.float32)
    for place, thumbnail in enumerate(thumbnails):
        level = cv2.GaussianBlur(np.asarray(thumbnail, np.float32), (0, 0), 0.7)
        detail = level - cv2.GaussianBlur(level, (0, 0), reach)
        found[place] = detail / (np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), window)) + floor)
    return found


def halved(evened: Floats) -> NDArray[np.int8]:
    """Return what the first step of the alignment needs of evened thumbnails, (n, 24, 24), small enough to be kept."""
    small = [cv2.resize(one, (SIDE // 2, SIDE // 2), interpolation=cv2.INTER_AREA) for one in evened]
    return np.asarray(np.clip(np.rint(24 * np.array(small)), -127, 127), np.int8).reshape(
        -1, SIDE // 2, SIDE // 2
    )


def coarsely_aligned(first: NDArray[np.int8], second: NDArray[np.int8], start: Map) -> Map | None:
    """Return the affine map from `first` to `second`, as pixels of whole thumbnails; None where they are too unlike.

    first, second: (24, 24), as `halved` gives them. start: a first guess.
    """
    there = np.linalg.inv(_HALVED) @ start @ _HALVED
    likeness, fitted = _fitted(first.astype(np.float32), second.astype(np.float32), there, 3)
    return None if likeness < _COARSE else _HALVED @ fitted @ np.linalg.inv(_HALVED)


def same_shot(
    first: NDArray[np.uint8], second: NDArray[np.uint8], start: Map
) -> tuple[Map, float, bool] | None:
    """Align two thumbnails from what `coarsely_aligned` says and compare them; None where they are not the same shot.

    Returns the map from `first` to `second`, the correlation of the details, and whether the light differs.
    """
    one, other = evened(np.stack([first, second]))
    likeness, there = _fitted(one, other, start, 1)
    inside = _inside(there)
    if likeness < _LEAST or not _is_scale(there) or inside.mean() < _OVERLAP:
        return None
    pair = np.stack([first.astype(np.float32), _moved(second, there)])
    blocks = _blocks(inside[None])[0].mean(axis=1) >= 0.8
    blocks &= (_blocks(pair).std(axis=2) >= _TEXTURE).any(axis=0)
    if blocks.sum() < _TEXTURED or _correlation(*evened(pair)[:, inside]) < _LEAST:
        return None
    fine = evened(pair, reach=2.0, window=4.0, floor=1.5)
    details = _correlation(*fine[:, inside])
    if details < SURE and not _agree(pair, fine, blocks, details):
        return None
    means, deviations = pair[:, inside].mean(axis=1), pair[:, inside].std(axis=1)
    relit = abs(means[0] - means[1]) > 8 or not 0.85 < deviations[0] / max(deviations[1], 1e-6) < 1.18
    return there, details, bool(relit)


def _agree(pair: Floats, fine: Floats, blocks: NDArray[np.bool_], details: float) -> bool:
    """Say whether pictures of which not all details agree are the same shot all the same.

    Either something moved a little (another frame), or fine detail was lost (noise, compression) while all that is
    coarser agrees, or a part was covered or written on and the rest is the same. Where details agree, light must be
    light in both: two drawings from one template, or two faces cut out on black, agree in their lines alone.
    """
    each = np.array([_correlation(*both) for both in zip(*_blocks(fine)[:, blocks], strict=True)])
    fifth, half, three_tenths = np.percentile(each, (20, 50, 70))
    levels = _blocks(np.stack([cv2.GaussianBlur(one, (0, 0), 1.0) for one in pair]))[:, blocks]
    of_agreeing = _correlation(*levels[:, each >= min(0.8, half)])
    moved = details >= DETAILS and fifth >= 0.5 and of_agreeing >= 0.96
    noisy = details >= NOISY and fifth >= 0.5 and _correlation(*levels) >= 0.98
    covered = half >= 0.93 and three_tenths >= 0.97 and of_agreeing >= 0.98
    return bool(moved or noisy or covered)


def alikeness(
    first: NDArray[np.uint8], second: NDArray[np.uint8], *, mirrored: bool = False
) -> tuple[float, float]:
    """Return how alike two thumbnails are once aligned: the correlation of all, and that of the second worst block.

    Both at most 1; (0, 0) where they cannot be aligned. Stricter than what makes near copies: two frames of one face
    with different expressions agree but in the blocks of the mouth and the eyes.
    """
    one, other = evened(np.stack([first, second]))
    halves = halved(np.stack([one, other]))
    there = coarsely_aligned(halves[0], halves[1], FLIP if mirrored else np.eye(3))
    if there is None:
        return 0.0, 0.0
    likeness, there = _fitted(one, other, there, 1)
    inside = _inside(there)
    blocks = _blocks(inside[None])[0].mean(axis=1) >= 0.8
    if likeness < 0 or not _is_scale(there) or inside.mean() < _OVERLAP or blocks.sum() < _TEXTURED:
        return 0.0, 0.0
    both = evened(np.stack([first.astype(np.float32), _moved(second, there)]))
    mine, theirs = _blocks(both)[:, blocks]
    each = sorted(_correlation(*pair) for pair in zip(mine, theirs, strict=True))
    return _correlation(*both[:, inside]), each[1]


def _fitted(first: Floats, second: Floats, start: Map, blur: int) -> tuple[float, Map]:
    """Return the correlation that ECC reaches and its affine map; -1 where it does not converge."""
    until = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 15, 1e-3)
    first_guess = start[:2].astype(np.float32)
    try:
        likeness, fitted = cv2.findTransformECC(
            first, second, first_guess, cv2.MOTION_AFFINE, until, None, blur
        )
    except cv2.error:  # they have nothing in common
        return -1.0, start
    return likeness, np.vstack([fitted, [0, 0, 1]]).astype(np.float64)


def _is_scale(there: Map) -> bool:
    """Say whether a map keeps roughly the size and the shape of what it maps."""
    long, short = np.linalg.svd(there[:2, :2], compute_uv=False)
    return bool(0.3 < long * short < 3.3 and long < _SQUEEZED * short)


def _moved(second: NDArray[np.uint8], there: Map) -> Floats:
    """Return a thumbnail as it lies on the first one, (48, 48) float32."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    found = cv2.warpAffine(
        second.astype(np.float32), there[:2], (SIDE, SIDE), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(found, np.float32)


def _inside(there: Map) -> NDArray[np.bool_]:
    """Return which pixels of the first thumbnail lie on the second, (48, 48) bool."""
    x, y = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    places = there[:2] @ np.stack([x.ravel(), y.ravel(), np.ones(SIDE * SIDE)])
    return ((places > -0.5) & (places < SIDE - 0.5)).all(axis=0).reshape(SIDE, SIDE)


def _blocks(pictures: NDArray[np.generic]) -> NDArray[np.generic]:
    """Cut (n, 48, 48) into 16 blocks each, (n, 16, 144)."""
    return pictures.reshape(-1, 4, 12, 4, 12).transpose(0, 1, 3, 2, 4).reshape(-1, 16, 144)


def _correlation(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    one, other = one - one.mean(), other - other.mean()
    return float((one * other).sum() / np.sqrt((one * one).sum() * (other * other).sum() + 1e-9))


def textured(thumbnails: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which pictures have enough in them to be compared, (n,) bool."""
    found = np.zeros(len(thumbnails), bool)
    for start in range(0, len(thumbnails), 1024):
        blocks = _blocks(thumbnails[start : start + 1024])
        found[start : start + 1024] = (blocks.std(axis=2) >= _TEXTURE).sum(axis=1) >= _TEXTURED
    return found
