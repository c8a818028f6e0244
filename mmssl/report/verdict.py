"""What the numbers say, before any figure: each claim beside the baselines that could refute it.

Rules: a task is *far above its floor* at half of the way from floor to ceiling; *at the floor* if no better than the
99 % binomial interval of chance where the score is a share over a known number of samples (at least 500, else
nothing is said), and within 5 % of the way otherwise.
"""

from __future__ import annotations

from mmssl.metrics import statistics
from mmssl.report.axes import number_text
from mmssl.report.content import ActionProbe, Bars, Card, Localization, PretextRow, ReportContent

NEAR = 0.05


def points(difference: float) -> str:
    """Return a difference of fractions as signed points: `+12.3 points`."""
    return f"{100 * difference:+.1f} points".replace("-", "−")


def far_above_floor(row: PretextRow) -> bool:
    """Whether the score has made at least half of the way from floor to ceiling."""
    return row.floor != row.ceiling and statistics.far_above_floor(row.score, row.floor, row.ceiling)


def at_floor(row: PretextRow) -> bool | None:
    """Whether the ablated score is no better than the floor; None where it was not measured or on too few samples."""
    if row.ablated is None:
        return None
    floor = row.floor if row.ablated_floor is None else row.ablated_floor
    if row.is_share and row.samples is not None and floor > 0:
        if row.samples < statistics.CHANCE_SAMPLES:
            return None
        return row.ablated <= statistics.chance_interval(floor, row.samples)[1] + 1e-9
    better = (row.ablated - floor) if row.higher_is_better else (floor - row.ablated)
    return better <= NEAR * abs(row.ceiling - floor) + 1e-9


def summary_cards(content: ReportContent) -> list[Card]:
    """Return the statements at the head of the page: those given, or those that the tables support."""
    if content.cards:
        return list(content.cards)
    cards: list[Card] = []
    if content.action is not None:
        cards.append(_action(content.action, content.bars))
    if content.localization is not None:
        cards += _localization(content.localization, content.bars)
    if content.pretext:
        cards += _pretext(content.pretext)
    if content.stages:
        used = sum(s.used for s in content.stages)
        planned = [s.planned for s in content.stages if s.planned is not None]
        told = f"planned {clock(sum(planned))}" if len(planned) == len(content.stages) else "no plan for all stages"
        cards.append(Card("Time used", clock(used), told))
    return cards


def clock(seconds: float) -> str:
    """Return seconds as `42 s`, `3 min 07 s` or `2 h 05 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _action(probe: ActionProbe, bars: Bars | None) -> Card:
    gain = probe.pretrained.mean - probe.random_init.mean
    told = (
        f"Random init {number_text(probe.random_init.mean, True)}, chance {number_text(probe.chance, True)}: "
        f"{points(gain)} over random init"
    )
    if probe.interval is not None:
        told += f" (95 % interval {points(probe.interval[0]).split()[0]} to {points(probe.interval[1]).split()[0]})"
    holds = None
    if bars is not None:
        told += f"; asked {points(bars.action_gain)}"
        holds = gain >= bars.action_gain
    return Card("Action, linear probe", number_text(probe.pretrained.mean, True), told + ".", holds)


def _localization(found: Localization, bars: Bars | None) -> list[Card]:
    model = found.row("model")
    if model is None or model.peak_in_box is None:
        return []
    own = model.peak_in_box
    gains: dict[str, float | None] = {}
    for name in ("centre_prior", "motion_saliency", "shuffled_sound"):
        row = found.row(name)
        gains[name] = None if row is None or row.peak_in_box is None else own - row.peak_in_box
    told = "; ".join(
        f"{points(gain)} over {name}" if gain is not None else f"{name} not measured"
        for name, gain in (("centre disc", gains["centre_prior"]), ("motion saliency", gains["motion_saliency"]))
    )
    sound = gains["shuffled_sound"]
    heard, drop = "Not measured with sound shuffled", "n/a"
    if sound is not None:
        heard = f"{number_text(own - sound, True)} with the sound of another clip instead of {number_text(own, True)}"
        drop = points(-sound)
    where: bool | None = None
    listens: bool | None = None
    if bars is not None:
        centre, motion = gains["centre_prior"], gains["motion_saliency"]
        if centre is not None and motion is not None:
            where = own >= bars.peak_in_box and centre >= bars.above_centre_prior
            where = where and motion >= bars.above_motion_saliency
        told += (
            f"; asked {number_text(bars.peak_in_box, True)}, {points(bars.above_centre_prior)} "
            f"and {points(bars.above_motion_saliency)}"
        )
        if sound is not None:
            listens = sound >= bars.above_shuffled_sound
            heard += f"; asked {points(-bars.above_shuffled_sound)}"
    clips = f" on {found.clips} clips" if found.clips else ""
    return [
        Card("Points at the sound", number_text(own, True), f"Peak in true box{clips}: {told}.", where),
        Card("Listens: sound shuffled", drop, f"{heard}. A model that only looks would lose nothing.", listens),
    ]


def _pretext(rows: tuple[PretextRow, ...]) -> list[Card]:
    far = [row for row in rows if far_above_floor(row)]
    weakest = min(rows, key=lambda row: row.reached)
    cards = [
        Card(
            "Pretext tasks learned",
            f"{len(far)} of {len(rows)}",
            f"Half of the way from floor to ceiling or more, held out. Least: {weakest.task}, "
            f"{number_text(weakest.reached, True)} of the way.",
            len(far) == len(rows),
        )
    ]
    tested = [row for row in rows if at_floor(row) is not None]
    if tested:
        floor = [row for row in tested if at_floor(row)]
        above = ", ".join(row.task for row in tested if not at_floor(row))
        told = "With the informative input zeroed the trained tasks fall to their floor"
        told += f", but not {above}." if above else "."
        unsaid = [row for row in rows if row.ablated is not None and at_floor(row) is None]
        if unsaid:
            few = ", ".join(f"{row.task} ({row.samples})" for row in unsaid)
            told += f" Too few samples to tell: {few}."
        cards.append(Card("At the floor when ablated", f"{len(floor)} of {len(tested)}", told, not above))
    return cards
