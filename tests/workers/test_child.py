"""How a worker process classifies exceptions."""

import errno

import pytest
import torch

from harness.core.errors import StudyError
from harness.workers.child import is_machine_fault, is_out_of_memory


def test_out_of_memory_is_not_a_bug() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(error.value)
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(torch.AcceleratorError("CUDA error: out of memory"))
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"))
    capture = RuntimeError("CUDA error: operation failed due to a previous error during capture")
    assert not is_out_of_memory(capture)
    capture.__context__ = torch.OutOfMemoryError("CUDA out of memory")
    assert is_out_of_memory(capture)
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_faults_of_the_machine_are_not_bugs() -> None:
    assert is_machine_fault(OSError(errno.ENOSPC, "No space left on device"))
    assert is_machine_fault(StudyError("lost"))
    assert not is_machine_fault(FileExistsError(errno.EEXIST, "File exists"))
    assert not is_machine_fault(ValueError("a bug"))
