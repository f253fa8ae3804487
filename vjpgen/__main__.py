"""`python -m vjpgen`: the command line."""


def main() -> None:
    """Run the command line."""
    from vjpgen.cli import main as run

    run()


if __name__ == "__main__":
    main()
