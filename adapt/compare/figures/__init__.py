"""What a comparison looks like: figures for a page or a paper, drawn without pyplot (no global figure, no
window), and one page of interactive ones.

matplotlib and plotly are imported when something is drawn.
"""

from adapt.compare.figures.beside import errors_beside
from adapt.compare.figures.break_even import break_even
from adapt.compare.figures.draw import draw_all
from adapt.compare.figures.interactive import interactive
from adapt.compare.figures.numbers import mean_curve
from adapt.compare.figures.points import score_against_memory, score_against_seconds
from adapt.compare.figures.reliability import reliability
from adapt.compare.figures.shots import score_against_shots
from adapt.compare.figures.speedups import speedup_bars
from adapt.compare.figures.style import COLOURS, empty_figure, save
from adapt.compare.figures.target import time_to_score

__all__ = [
    "COLOURS",
    "break_even",
    "draw_all",
    "empty_figure",
    "errors_beside",
    "interactive",
    "mean_curve",
    "reliability",
    "save",
    "score_against_memory",
    "score_against_seconds",
    "score_against_shots",
    "speedup_bars",
    "time_to_score",
]
