"""A module whose import leaves a thread, as some toolchains' do."""

from __future__ import annotations

import threading

threading.Thread(target=threading.Event().wait, daemon=True, name="left-behind").start()
