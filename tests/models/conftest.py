"""What tests of models share."""

import pytest
import torch


@pytest.fixture(scope="module")
def one_thread():
    """One thread of PyTorch: tests run in processes side by side, where threads wait for others."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
