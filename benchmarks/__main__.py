"""Run every benchmark."""

from benchmarks import (
    effects,
    effects_quality,
    import_time,
    latency,
    native,
    postprocessing,
    stages,
    validation,
)

if __name__ == "__main__":
    import_time.main()
    stages.main()
    latency.main()
    postprocessing.main()
    native.main()
    effects.main()
    effects_quality.main()
    validation.main()
