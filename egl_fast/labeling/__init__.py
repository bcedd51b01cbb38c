"""From picks to a labeling tool and back: formats, what came back, and whether to believe it."""
