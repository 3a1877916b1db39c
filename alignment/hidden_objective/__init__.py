"""Do preferences that a model was only told about show in what it writes? The experiment on hidden objectives."""
