"""``python -m ort_quant_plugin``: the command line, also where the script is not on PATH."""

from ort_quant_plugin.cli.main import main

if __name__ == "__main__":
    main()
