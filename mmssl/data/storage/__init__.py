"""Where shards lie: local paths (`pathlib.Path`) and remote addresses (`Url`), read by ranges of bytes.

    status(shard) -> (size, version)        read_range(shard, at, size) -> bytes

Nothing of the network is imported before a remote shard is used.
"""

from __future__ import annotations

from mmssl.data.storage.errors import MissingError as MissingError
from mmssl.data.storage.errors import RefusedError as RefusedError
from mmssl.data.storage.errors import RemoteError as RemoteError
from mmssl.data.storage.ranges import read_range as read_range
from mmssl.data.storage.ranges import status as status
from mmssl.data.storage.settings import RemoteSettings as RemoteSettings
from mmssl.data.storage.url import Shard as Shard
from mmssl.data.storage.url import Url as Url
