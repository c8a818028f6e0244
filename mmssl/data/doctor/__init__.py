"""What works on this machine and what is missing: decoders, versions, FFmpeg, NVDEC, memory, limits, cache.

Every library is imported and tried in a process of its own with a time limit, because a decoder whose libraries do
not fit ends the whole process: here that is one line of the table. This package imports the standard library alone.
"""

from mmssl.data.doctor.examine import Report as Report
from mmssl.data.doctor.examine import examine as examine
from mmssl.data.doctor.finding import Finding as Finding
