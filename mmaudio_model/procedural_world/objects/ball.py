"""A bouncing ball of wood, metal, glass or rubber. Its material sets look, bounce and sound."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mmaudio_model.procedural_world.canvas import Canvas
from mmaudio_model.procedural_world.chance import Colour, near, pick, shade, vivid
from mmaudio_model.procedural_world.event import Event, make_events
from mmaudio_model.procedural_world.objects.flight import Throw, draw_throws
from mmaudio_model.procedural_world.setting import Setting
from mmaudio_model.procedural_world.sounds.material import make_body
from mmaudio_model.procedural_world.sounds.modal import Body, strike_sound

RESTITUTION = {"wood": (0.58, 0.68), "metal": (0.64, 0.74), "glass": (0.66, 0.76), "rubber": (0.78, 0.85)}
COLOURS: dict[str, tuple[Colour, ...]] = {
    "wood": ((168, 112, 62), (140, 88, 48), (196, 146, 92)),
    "metal": ((138, 144, 154), (112, 118, 128), (168, 170, 174)),
    "glass": ((150, 220, 226), (150, 226, 178), (196, 214, 240)),
}
WORDS = {"wood": "wooden", "metal": "metal", "glass": "glass", "rubber": "rubber"}
NOISES = {"wood": "knocks", "metal": "rings", "glass": "clinks", "rubber": "thuds"}


@dataclass(frozen=True)
class Ball:
    """One ball, thrown again and again; radius in picture heights."""

    material: str
    radius: float
    colour: Colour
    ground: str
    throws: tuple[Throw, ...]
    body: Body
    events: tuple[Event, ...]

    def captions(self) -> tuple[str, ...]:
        word, noise = WORDS[self.material], NOISES[self.material]
        floor = "floor" if self.ground == "plain" else self.ground
        return (
            f"a {word} ball bouncing",
            f"a {word} ball bounces on the {floor}",
            f"a {word} ball falls and bounces several times",
            f"a ball made of {self.material} hits the {floor} and {noise}",
            f"the sound of a bouncing {word} ball",
            f"bouncing {word} ball, each bounce softer than the last",
            f"a {'large' if self.radius > 0.1 else 'small'} {word} ball is dropped and {noise}",
        )

    def height(self, time_s: float) -> float:
        """Return the lowest height above the ground of any ball that is still bouncing, in picture heights."""
        # Event times are rounded, so the last may lie a little behind the bounce.
        flying = [throw for throw in self.throws if throw.start_s <= time_s <= throw.bounces_s[-1] + 1e-6]
        heights = [throw.height(time_s) for throw in flying]
        return min(heights, default=math.inf)

    def draw(self, canvas: Canvas, time_s: float) -> None:
        for throw in self.throws:
            x = throw.place(time_s)
            if time_s >= throw.start_s and abs(x) < 2:
                self._draw_at(canvas, x, throw.height(time_s), throw.squeeze(time_s))

    def _draw_at(self, canvas: Canvas, x: float, height: float, squeeze: float) -> None:
        canvas.shadow(x, self.radius, height=height)
        # Rubber is squeezed most; all flatten slightly from the top, so the lowest point stays on the ground.
        soft = 0.3 if self.material == "rubber" else 0.06
        squash = 1 - soft * squeeze
        rx, ry = self.radius / math.sqrt(squash), self.radius * squash
        y = height + ry
        turn = -x / self.radius  # it rolls as far as it moves, in the air too
        {"wood": _wood, "metal": _metal, "glass": _glass, "rubber": _rubber}[self.material](
            canvas, x, y, rx, ry, self.colour, turn
        )

    def sound(self, rng: np.random.Generator, samples: int, sample_rate_hz: int) -> np.ndarray:
        return strike_sound(rng, self.body, self.events, samples, sample_rate_hz)


def make_ball(rng: np.random.Generator, duration_s: float, setting: Setting, *, material: str) -> Ball:
    """Draw the parameters of a ball; a large one has lower modes."""
    radius = rng.uniform(0.07, 0.125)
    throws = draw_throws(rng, duration_s, RESTITUTION[material])
    times = [time for throw in throws for time in throw.bounces_s]
    strengths = [strength for throw in throws for strength in throw.strengths]
    return Ball(
        material=material,
        radius=radius,
        colour=near(rng, pick(rng, COLOURS[material]), 12) if material in COLOURS else vivid(rng),
        ground=setting.ground,
        throws=throws,
        body=make_body(rng, material, size=radius / 0.095),
        events=make_events(times, strengths, duration_s),
    )


def _globe(canvas: Canvas, x: float, y: float, rx: float, ry: float, colour: Colour, shine: float) -> None:
    """Shade a sphere from its dark rim to a highlight at the upper left."""
    for step in range(12):
        size, move = 1 - 0.06 * step, 0.026 * step
        lit = shade(colour, 0.62 + 0.048 * step) if step < 8 else shade(colour, 1 + 0.5 * shine * (step - 7))
        canvas.ellipse(x - move * rx, y + move * ry, size * rx, size * ry, lit)


def _wood(canvas: Canvas, x: float, y: float, rx: float, ry: float, colour: Colour, turn: float) -> None:
    _globe(canvas, x, y, rx, ry, colour, 0.08)
    for ring in (0.24, 0.46, 0.68):  # growth rings around an axis that turns with the ball
        off = 0.28 * (1 - ring)
        centre_x, centre_y = x + off * rx * math.cos(turn), y + off * ry * math.sin(turn)
        canvas.ring(centre_x, centre_y, ring * rx, ring * ry, shade(colour, 0.55), 0.007)


def _metal(canvas: Canvas, x: float, y: float, rx: float, ry: float, colour: Colour, _turn: float) -> None:
    _globe(canvas, x, y, rx, ry, shade(colour, 0.8), 0.2)
    canvas.ellipse(x, y - 0.28 * ry, 0.82 * rx, 0.3 * ry, (*shade(colour, 0.4), 150))  # the floor, mirrored
    canvas.ellipse(x - 0.3 * rx, y + 0.45 * ry, 0.3 * rx, 0.2 * ry, (255, 255, 255, 235))


def _glass(canvas: Canvas, x: float, y: float, rx: float, ry: float, colour: Colour, turn: float) -> None:
    canvas.ellipse(x, y, rx, ry, (*colour, 96))
    canvas.ring(x, y, rx, ry, (*shade(colour, 1.6), 230), 0.01)
    canvas.ellipse(x + 0.25 * rx, y - 0.4 * ry, 0.4 * rx, 0.25 * ry, (255, 255, 255, 90))
    canvas.ellipse(x - 0.35 * rx, y + 0.42 * ry, 0.2 * rx, 0.16 * ry, (255, 255, 255, 240))
    swirl = [
        (x + 0.5 * rx * s * math.cos(turn + 2 * s), y + 0.5 * ry * s * math.sin(turn + 2 * s))
        for s in (-1, -0.4, 0.4, 1)
    ]
    canvas.line(swirl, 0.012, (*shade(colour, 0.55), 190))


def _rubber(canvas: Canvas, x: float, y: float, rx: float, ry: float, colour: Colour, turn: float) -> None:
    _globe(canvas, x, y, rx, ry, colour, 0.04)
    for side in (0.0, math.pi):  # a pale stripe round the ball
        ends = [turn + side + delta for delta in (-0.45, 0.0, 0.45)]
        canvas.polygon(
            [(x, y), *((x + 0.97 * rx * math.cos(a), y + 0.97 * ry * math.sin(a)) for a in ends)], (244, 238, 224)
        )
    canvas.ellipse(x, y, 0.3 * rx, 0.3 * ry, shade(colour, 0.85))
