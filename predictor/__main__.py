"""`python -m predictor`, and the commands `predictor` and `torchserve`."""

import signal
import sys


def main() -> int:
    """Run the command line; returns the exit status of the process."""
    if sys.argv[1:2] == ["serve"]:
        _ignore_hang_ups()
    from predictor import cli

    return cli.main()


def torchserve() -> int:
    """Run TorchServe's command line; returns the exit status of the process."""
    _ignore_hang_ups()
    from predictor.torchserve import launcher

    return launcher.main()


def _ignore_hang_ups() -> None:
    """Let SIGHUP, which asks a server to read its store, not end one that only begins to start.

    Before any import that takes time; the server has its own answer once it has opened the model store.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main())
