"""Run every benchmark."""

from benchmarks import effects, effects_quality, import_time, postprocessing, stages, validation

if __name__ == "__main__":
    import_time.main()
    stages.main()
    postprocessing.main()
    effects.main()
    effects_quality.main()
    validation.main()
