"""The ten actions: how an object moves, when it strikes something, and what drives its sound.

Every action is periodic and its path has its mean at the object's place, so that one frame of it - a place, a size,
an orientation out of uniform distributions - says next to nothing about the action. Stops, floors, strings and
pivots are not drawn for the same reason. Lengths are in *units*: one unit is one percent of the picture's width at
the object's distance.

No action is told by direction, tempo or length of path alone; what tells it is the course of the motion:

=========  ===================================================  ======================================
action     motion                                               sound
=========  ===================================================  ======================================
bounce     parabolas above a floor                              impact at each contact
roll       to and fro across, turning as a wheel does           rumble by speed, grains by angle
swing      pendulum under a pivot, tilting along                rush by the square of the speed
slide      pushes along a slope with rests between              scrape while it moves
spin       turns about its own axis in place                    pulsed hum, loudness once a turn
orbit      circles                                              hum, loudness and pitch by the phase
shake      quick small vibration along a line                   rattle at every reversal
approach   comes near and goes away                             hum, loudness by nearness, Doppler
collide    straight runs between two stops                      impact at each stop
topple     falls over an edge, lies, gets up again              thud at the end of the fall, then scuff
=========  ===================================================  ======================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

ACTIONS = ("bounce", "roll", "swing", "slide", "spin", "orbit", "shake", "approach", "collide", "topple")

# Shortest and longest period in seconds: every action comes round at least once in 1.6 s.
PERIODS: dict[str, tuple[float, float]] = {
    "bounce": (0.65, 0.95),
    "roll": (1.9, 2.6),
    "swing": (1.1, 1.5),
    "slide": (1.2, 1.6),
    "spin": (0.9, 1.3),
    "orbit": (1.0, 1.4),
    "shake": (0.28, 0.36),
    "approach": (1.3, 1.8),
    "collide": (0.9, 1.2),
    "topple": (1.2, 1.6),
}


@dataclass(frozen=True)
class Motion:
    """One object's course.

    Args:
        action: Name out of `ACTIONS`, or "rest".
        period: Seconds after which the course repeats.
        phase: Where in the course the clip begins, in [0, 1).
        sign: Side or sense of turning, -1 or 1.
        slope: Angle of a line of motion in radians.
        reach: Multiplies the length of the path.
        radius: The object's radius in units, for rolling and toppling without slip.
    """

    action: str
    period: float
    phase: float
    sign: float
    slope: float
    reach: float
    radius: float


@dataclass(frozen=True)
class Course:
    """The pose of an object over time, relative to its place: arrays [T].

    right, up: Shift in units. nearness: Natural logarithm of the magnification. turn: Angle about the line of
    sight (counter-clockwise) and spin: angle about the object's own axis, both in radians.
    """

    right: np.ndarray
    up: np.ndarray
    nearness: np.ndarray
    turn: np.ndarray
    spin: np.ndarray


@dataclass(frozen=True)
class Drive:
    """What excites the sound: `contacts` [N] in seconds with `strengths` [N], and continuous signals [S].

    hiss and hum: Loudness of noise and of a pulse train in [0, 1]. pulse: Pulses per second, one number.
    delay: Seconds by which the sound arrives late; its change is the Doppler shift.
    """

    contacts: np.ndarray
    strengths: np.ndarray
    hiss: np.ndarray
    hum: np.ndarray
    pulse: float
    delay: np.ndarray


def draw_motion(action: str, random: np.random.Generator) -> Motion:
    """Draw a course of the action (its radius is filled in by the layout, see `dataclasses.replace`)."""
    low, high = PERIODS.get(action, (1.0, 1.0))
    period, phase, sign, slope, reach = random.random(5)
    return Motion(
        action=action,
        period=low + (high - low) * period,
        phase=float(phase),
        sign=1.0 if sign < 0.5 else -1.0,
        slope=float(np.deg2rad(-20 + 40 * slope)),
        reach=0.85 + 0.3 * float(reach),
        radius=9.0,
    )


def _bounce(m: Motion, p: np.ndarray) -> dict[str, np.ndarray]:
    height = 16.0 * m.reach
    return {"up": height * (4 * p * (1 - p) - 2 / 3)}


def _roll(m: Motion, p: np.ndarray) -> dict[str, np.ndarray]:
    right = m.sign * 12.0 * m.reach * np.sin(2 * np.pi * p)
    return {"right": right, "turn": -right / m.radius}


def _swing(m: Motion, p: np.ndarray) -> dict[str, np.ndarray]:
    length, widest = 17.0 * m.reach, 0.85
    angle = m.sign * widest * np.sin(2 * np.pi * p)
    # The mean of cos(a sin t) is the Bessel function J0(a); to fourth order it is the polynomial below.
    mean = 1 - widest**2 / 4 + widest**4 / 64
    return {"right": length * np.sin(angle), "up": -length * (np.cos(angle) - mean), "turn": angle}


def _pushes(p: np.ndarray) -> np.ndarray:
    """Out and back in [-1, 1]: two smooth pushes out, two back, a rest after each."""
    quarter = np.floor(4 * p)
    within = np.clip((4 * p - quarter) / 0.55, 0, 1)
    eased = within * within * (3 - 2 * within)
    start = np.array([-1.0, 0.0, 1.0, 0.0])[quarter.astype(int) % 4]
    return np.asarray(start + np.array([1.0, 1.0, -1.0, -1.0])[quarter.astype(int) % 4] * eased)


def _slide(m: Motion, p: np.ndarray) -> dict[str, np.ndarray]:
    way = 12.0 * m.reach * _pushes(p)
    slope = m.sign * (np.pi / 4 + m.slope)
    return {"right": way * np.cos(slope), "up": way * np.sin(slope)}


def _spin(m: Motion, p: np.ndarray) -> dict[str, np.ndarray]:
    return {"spin": m.sign * 2 * np.pi * p}


def _orbit(m: Motion, p: np.ndarray) -> dict[str, np.ndarray]:
    angle = m.sign * 2 * np.pi * p
    radius = 9.0 * m.reach
    return {"right": radius * np.cos(angle), "up": radius * np.sin(angle)}


def _shake(m: Motion, p: np.ndarray) -> dict[str, np.ndarray]:
    way = 4.5 * m.reach * np.sin(2 * np.pi * p)
    slope = m.slope * 4.5
    return {"right": way * np.cos(slope), "up": way * np.sin(slope)}


def _approach(m: Motion, p: np.ndarray) -> dict[str, np.ndarray]:
    return {"nearness": 0.36 * m.reach * np.sin(2 * np.pi * p)}


def _collide(m: Motion, p: np.ndarray) -> dict[str, np.ndarray]:
    way = 11.0 * m.reach * (1 - 4 * np.abs(p - 0.5))
    return {"right": m.sign * way * np.cos(m.slope), "up": m.sign * way * np.sin(m.slope)}


def _fall(p: np.ndarray) -> np.ndarray:
    """Share of the fall in [0, 1]: stands, falls ever faster until 0.4, rocks back a little, lies, gets up."""
    falling = np.clip((p - 0.1) / 0.3, 0, 1) ** 2
    rising = np.clip((p - 0.65) / 0.35, 0, 1)
    rocking = 0.12 * np.abs(np.sin(np.pi * np.clip((p - 0.4) / 0.12, 0, 1)))
    return np.asarray(np.where(p < 0.4, falling, 1 - rising * rising * (3 - 2 * rising) - rocking))


def _topple_arc(p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Angle of the fall and the centre's place (right, up) about the pivot, in lengths of the arm."""
    angle = 1.45 * _fall(p)
    # The pivot is the lower corner on the side of the fall, at 45 degrees under the centre.
    around = np.pi * 0.75 - angle
    return angle, np.cos(around), np.sin(around)


_TOPPLE_MEAN = [float(part.mean()) for part in _topple_arc((np.arange(1000) + 0.5) / 1000)[1:]]


def _topple(m: Motion, p: np.ndarray) -> dict[str, np.ndarray]:
    angle, right, up = _topple_arc(p)
    arm = m.radius * 1.25
    return {
        "right": m.sign * arm * (right - _TOPPLE_MEAN[0]),
        "up": arm * (up - _TOPPLE_MEAN[1]),
        "turn": -m.sign * angle,
    }


def _rest(m: Motion, p: np.ndarray) -> dict[str, np.ndarray]:
    return {}


_COURSES: dict[str, Callable[[Motion, np.ndarray], dict[str, np.ndarray]]] = {
    "bounce": _bounce,
    "roll": _roll,
    "swing": _swing,
    "slide": _slide,
    "spin": _spin,
    "orbit": _orbit,
    "shake": _shake,
    "approach": _approach,
    "collide": _collide,
    "topple": _topple,
    "rest": _rest,
}

# Phases of the course at which something is struck, with the strength of the blow.
_CONTACTS: dict[str, tuple[tuple[float, float], ...]] = {
    "bounce": ((0.0, 1.0),),
    "shake": ((0.25, 1.0), (0.75, 0.7)),
    "collide": ((0.0, 1.0), (0.5, 0.8)),
    "topple": ((0.4, 1.0), (0.52, 0.35)),
}


def phases(motion: Motion, times: np.ndarray) -> np.ndarray:
    """Where in the course the object is at each time, in [0, 1)."""
    return np.mod(motion.phase + times / motion.period, 1.0)


def course(motion: Motion, times: np.ndarray) -> Course:
    """The pose at each of the times (seconds) [T]."""
    parts = _COURSES[motion.action](motion, phases(motion, times))
    zero = np.zeros(len(times))
    names = ("right", "up", "nearness", "turn", "spin")
    return Course(**{name: parts.get(name, zero) for name in names})


def contacts(motion: Motion, duration: float) -> tuple[np.ndarray, np.ndarray]:
    """Times in seconds within [0, duration) at which the object strikes something, in order, and the strengths."""
    found: list[tuple[float, float]] = []
    for phase, strength in _CONTACTS.get(motion.action, ()):
        first = np.mod(phase - motion.phase, 1.0) * motion.period
        found += [(float(at), strength) for at in np.arange(first, duration, motion.period)]
    found.sort()
    pairs = np.array(found, dtype=np.float64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def drive(motion: Motion, duration: float, samples: int) -> Drive:
    """What excites the sound over `samples` instants of the clip."""
    times = np.arange(samples) * (duration / samples)
    p = phases(motion, times)
    zero = np.zeros(samples)
    at, strengths = contacts(motion, duration)
    hiss, hum, pulse, delay = zero, zero, 30.0, zero
    if motion.action == "roll":
        speed = np.abs(np.cos(2 * np.pi * p))
        turn = course(motion, times).turn
        hiss = (0.15 + speed) * (0.4 + 0.6 * np.square(np.sin(4 * turn)))
    elif motion.action == "swing":
        hiss = np.square(np.square(np.cos(2 * np.pi * p))) + 0.03
    elif motion.action == "slide":
        within = np.mod(4 * p, 1.0) / 0.55
        hiss = np.where(within < 1, np.sqrt(np.clip(4 * within * (1 - within), 0, 1)), 0.0)
    elif motion.action == "spin":
        hum, pulse = 0.35 + 0.65 * np.square(np.sin(np.pi * p)), 38.0 / motion.period
    elif motion.action == "orbit":
        hum, pulse = 0.25 + 0.75 * np.square(0.5 + 0.5 * np.sin(2 * np.pi * p)), 85.0
        delay = 0.008 * np.cos(2 * np.pi * p)
    elif motion.action == "approach":
        near = np.sin(2 * np.pi * p)
        hum, pulse = np.exp(1.3 * (near - 1.0)), 60.0
        hiss = 0.5 * hum
        delay = -0.010 * near
    elif motion.action == "topple":
        hiss = 0.10 * ((p > 0.68) & (p < 0.97)).astype(float)
    return Drive(contacts=at, strengths=strengths, hiss=hiss, hum=hum, pulse=pulse, delay=delay)
