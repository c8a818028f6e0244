"""Where the time of loading goes: an instrumented pass in this process, and whole loaders with workers.

Nothing here runs while a stream is used: the steps are wrapped for the length of a measurement and set back.
"""

from mmssl.data.bench.loader import LoaderRow as LoaderRow
from mmssl.data.bench.loader import measure_loader as measure_loader
from mmssl.data.bench.measure import PartsReport as PartsReport
from mmssl.data.bench.measure import measure_parts as measure_parts
