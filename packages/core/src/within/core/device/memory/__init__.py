"""How much memory a network needs, by four instruments; `reading` says what each kind of number means."""

from within.core.device.memory.allocator import return_freed_memory
from within.core.device.memory.cuda import cuda_peak
from within.core.device.memory.graph_executor import GraphExecutor, graph_module, live_graph_measured, trace_graph
from within.core.device.memory.instruments import read_all
from within.core.device.memory.process import onnxruntime_memory, process_memory
from within.core.device.memory.profiler import allocation_events, allocation_peak
from within.core.device.memory.reading import COLUMNS, MemoryReading, rows
from within.core.device.memory.resident import resident_peak
from within.core.device.memory.storage import StorageCounter, StorageTrace, count_storages, live_eager, trace_eager

__all__ = [
    "COLUMNS",
    "GraphExecutor",
    "MemoryReading",
    "StorageCounter",
    "StorageTrace",
    "allocation_events",
    "allocation_peak",
    "count_storages",
    "cuda_peak",
    "graph_module",
    "live_eager",
    "live_graph_measured",
    "onnxruntime_memory",
    "process_memory",
    "read_all",
    "resident_peak",
    "return_freed_memory",
    "rows",
    "trace_eager",
    "trace_graph",
]
